/** Hostile values in each part of a remote target and as names on it. The target stores each as it is or refuses it. It executes none,
 *  and none leads out of the base. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { loadPlugins } from '../../../core/plugins/index.js';
import { makeAppliance } from '../../support/appliance.js';
import { pointsOf, seed } from '../../support/depth.js';
import { Smbd } from '../../support/servers/smbd.js';
import { startSshd } from '../../support/servers/sshd.js';
import { mulberry } from '../crash/random.js';
import { decoys, openServers, tryOpening } from './openings.js';
import { counted, emptyTally, filesNamed, inLanes, type Lane, Surroundings, sample, type Tally, tryPath } from './paths.js';
import { tryTarget } from './targets.js';
import { HostileValues, isText, pick } from './values.js';

const points = pointsOf('hostile');
const mark = `pwned-${seed.toString(16)}`;
t.comment(`TEST_SEED=${seed}`);

const state = await mkdtemp(join(tmpdir(), 'hostile-'));
t.teardown(() => rm(state, { recursive: true, force: true }));
const plugins = await loadPlugins([fileURLToPath(new URL('../../../plugins/targets', import.meta.url))], state);
const opening = { signal: new AbortController().signal, log: () => undefined };
const lanes = 4;

/** Asserts that there are no problems, and that many values were stored and many refused. */
function judged(t: Test, tally: Tally, o: { readonly count: number; readonly least?: number; readonly began: number }): void {
  t.comment(`${o.count} values: ${counted(tally)}; ${((performance.now() - o.began) / 1000).toFixed(1)} s`);
  t.equal(tally.stored + tally.refused, o.count, 'every value was kept or refused');
  t.same(sample(tally.problems), [], `${tally.problems.length} problems (TEST_SEED=${seed})`);
  const least = (o.least ?? 0.2) * o.count;
  t.ok(tally.stored >= least && tally.refused >= least, `both ends are common: ${counted(tally)}`);
}

/** Asserts that no shell executed a value, and that nothing outside changed. */
async function unharmed(t: Test, around: Surroundings, folders: readonly string[] = []): Promise<void> {
  t.same(await around.changes(), [], 'all else on the server is as it was');
  t.same(await filesNamed(mark, [state, around.folder, ...folders]), [], 'no command was run');
}

/** Stores below several folders of a server at a time, one for each lane. */
async function pathsBlock(
  t: Test,
  o: {
    readonly count: number;
    readonly open: (n: number) => Promise<Lane>;
    readonly around: Surroundings;
    readonly may?: (path: string) => boolean;
    readonly impossible?: number;
  },
): Promise<void> {
  const values = new HostileValues(mulberry(seed + o.count), mark, o.impossible).take(o.count);
  const tally = emptyTally();
  const began = performance.now();
  const opened: Lane[] = [];
  try {
    for (let n = 0; n < lanes; n++) opened.push(await o.open(n));
    await inLanes(opened, values, (lane, value) => tryPath(lane, value, tally, o.may));
  } finally {
    for (const { target } of opened) await target[Symbol.asyncDispose]();
  }
  judged(t, tally, { count: o.count, began });
  await unharmed(t, o.around);
}

t.test(`${points.targets} hostile targets over the API are stored as sent, or refused with the key`, async (t) => {
  // in memory: each target is synced when it is made and when it is removed
  const memory = await mkdtemp('/dev/shm/hostile-');
  t.teardown(() => rm(memory, { recursive: true, force: true }));
  const a = await makeAppliance(t);
  await a.restart({ stateFolder: join(memory, 'state') });
  const random = mulberry(seed);
  const values = new HostileValues(random, mark);
  const tally = emptyTally();
  const around = await Surroundings.of(a.share, []);
  const began = performance.now();
  await inLanes(['', '', '', ''], Array<string>(points.targets).fill(''), () => tryTarget(a.service, random, values, tally));
  judged(t, tally, { count: points.targets, began });
  t.same(await a.service.call('GET', '/target/'), [], 'none is left');
  t.equal((await fetch(`${a.service.address}/healthz`)).status, 200, 'the service lives on');
  await unharmed(t, around, [a.folder, memory]);
});

t.test(`${points.sftp} hostile paths on an sftp server are stored as they are, or refused`, async (t) => {
  const server = await startSshd({ user: true });
  t.teardown(() => server.stop());
  const { host, port, user: username, password, home, fingerprints } = server;
  await decoys(home);
  const around = await Surroundings.of(server.folder, ['log', 'home/place']);
  const open = async (n: number): Promise<Lane> => {
    const options = { host, port, username, password, hostKey: fingerprints.ed25519, base: `~/place ${n}` };
    return { root: join(home, `place ${n}`), target: await plugins.openTarget('sftp', options, opening) };
  };
  await pathsBlock(t, { count: points.sftp, open, around });
});

/** Names of devices: Windows finds no file with such a name, and Samba lists it under another name. */
const device = /^(?:con|prn|aux|nul|com[\d¹²³]|lpt[\d¹²³]) *(?:\.|$)/i;

/** Whether Windows can store exactly this name. */
const forWindows = (path: string): boolean =>
  isText(path) &&
  !/["*:<>?|\\]|[ .](?:\/|$)/.test(path) &&
  [...path].every((char) => char >= ' ') &&
  !path.split('/').some((part) => device.test(part));

t.test(`${points.smb} hostile paths on an SMB server are stored as they are with names that Windows keeps, or refused`, async (t) => {
  const server = await Smbd.start();
  t.teardown(() => server[Symbol.asyncDispose]());
  const { host, port, user: username, password, share, folder } = server;
  await decoys(folder);
  const around = await Surroundings.of(folder, ['place']);
  const open = async (n: number): Promise<Lane> => {
    const options = { host, port, username, password, base: `${share}/place ${n}` };
    return { root: join(folder, `place ${n}`), target: await plugins.openTarget('smb', options, opening) };
  };
  // Windows refuses many names that others store
  await pathsBlock(t, { count: points.smb, open, around, may: forWindows, impossible: 0.1 });
  t.same(await filesNamed(mark, [server.root]), []);
});

t.test(`${points.rsync} hostile paths on a server with rsync and a shell are stored as they are, or refused`, async (t) => {
  const server = await startSshd({ user: true });
  t.teardown(() => server.stop());
  const { host, port, user: username, home, fingerprints } = server;
  const { privateKey } = await server.newKey('ed25519');
  await decoys(home);
  const around = await Surroundings.of(server.folder, ['log', 'home/place']);
  const open = async (n: number): Promise<Lane> => {
    const options = { host, port, username, privateKey, hostKey: fingerprints.ed25519, base: `~/place ${n}` };
    return { root: join(home, `place ${n}`), target: await plugins.openTarget('rsync', options, opening) };
  };
  await pathsBlock(t, { count: points.rsync, open, around });
});

t.test(`${points.openings} hostile users, hosts and bases open a plugin exactly there, or are refused`, async (t) => {
  const { all, around, folders } = await openServers(t);
  const random = mulberry(seed + 1);
  const values = new HostileValues(random, mark).take(points.openings);
  const tally = emptyTally();
  const began = performance.now();
  await inLanes([0, 1, 2, 3, 4, 5], values, (_lane, value) => tryOpening({ plugins, random, server: pick(random, all) }, value, tally));
  judged(t, tally, { count: points.openings, began });
  for (const { folder } of all) await rm(folder, { recursive: true, force: true }); // its names look like the searched ones
  for (const one of around) await unharmed(t, one, folders);
});
