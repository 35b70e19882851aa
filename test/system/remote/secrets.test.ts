/** The secrets of a remote target are in no argument, environment, answer, log or file, in success and in failure. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { part } from '../../support/api-client.js';
import { idOf, list } from '../bed/request-bodies.js';
import { type CanaryBed, type CanaryServer, canary, canaryServers, makeBackup, openBed, restoreBeside } from './canary-bed.js';
import { Canaries, canariesBelow, ProcessWatch } from './canary-watch.js';

const began = Date.now();

interface Round {
  readonly bed: CanaryBed;
  /** Name of the server and of the container. */
  readonly name: string;
  readonly profile: number;
  readonly job: number;
}

/** Sends every request about the target. A check must find the problem `code`, or none when it is undefined. */
async function askedAll(t: Test, { bed: { client }, name, profile }: Round, code?: string): Promise<void> {
  const what = `${name}, ${code ?? 'good'}`;
  const target = `/target/${profile}`;
  // all at a time: each waits for its limit when the server does not answer
  const asked = ['ping', 'check', 'dirs'].map((one) => client.ask('GET', `${target}/${one}`));
  const [ping, check, dirs] = await Promise.all(asked);
  t.same(ping?.json, { alive: code === undefined }, `${what}: ping`);
  const codes = list(part(check?.json, 'problems')).map((one) => part(one, 'code'));
  t.same(codes, code === undefined ? [] : [code], `${what}: check ${JSON.stringify(check?.json)}`);
  t.equal(dirs?.status, code === undefined ? 200 : 503, `${what}: dirs`);
  for (const path of ['/target/', '/target/?view=full', target, `${target}?view=full`, '/backup/?view=full'])
    await client.call('GET', path);
}

async function failedRun(t: Test, { bed: { client }, name, job }: Round, code: string): Promise<void> {
  await client.call('PUT', `/backup/${job}/run`);
  const { result, error } = await client.settled('backup', job);
  t.match({ result, error }, { result: -1, error: { code } }, `${name}: a backup ends so: ${code}`);
}

/** Starts a run and stops it, because it would retry for long. */
async function stoppedRun({ bed: { client }, job }: Round): Promise<void> {
  await client.call('PUT', `/backup/${job}/run`);
  await sleep(1500);
  await client.ask('PUT', `/backup/${job}/stop`);
  await client.settled('backup', job);
}

/** Makes a target, uses it without a fault, and then with each fault. */
async function used(t: Test, bed: CanaryBed, name: string, server: CanaryServer): Promise<void> {
  const { client } = bed;
  const profile = idOf(await client.call('POST', '/target', server.body));
  const round: Round = { bed, name, profile, job: await makeBackup(bed, name, profile) };
  await askedAll(t, round);
  await client.call('PUT', `/backup/${round.job}/run`);
  const stored = await client.settled('backup', round.job);
  t.match(stored, { result: 0 }, `${name}: a backup ${JSON.stringify(stored)}`);
  const restored = await restoreBeside(bed, name, profile);
  t.match(restored, { result: 0 }, `${name}: a restore ${JSON.stringify(restored)}`);
  for (const wrong of server.wrong) {
    await client.call('PUT', `/target/${profile}`, wrong);
    await askedAll(t, round, 'denied');
    await failedRun(t, round, 'denied');
  }
  await client.call('PUT', `/target/${profile}`, server.right);
  if (server.changeKey !== undefined) {
    await server.changeKey();
    await askedAll(t, round, 'untrusted');
    await failedRun(t, round, 'untrusted');
  }
  await server.kill();
  await Promise.all([askedAll(t, round, 'unavailable'), stoppedRun(round)]);
}

/** Every file that the service and its children may have written. */
async function inFiles({ folder, lxcPath }: CanaryBed, servers: readonly CanaryServer[], canaries: Canaries): Promise<string[]> {
  const folders = [folder, lxcPath, ...servers.map(({ stored }) => stored)];
  const except = [folder, lxcPath, ...servers.map(({ own }) => own)];
  const all = folders.map((path) => canariesBelow(path, canaries));
  const fresh = ['/tmp', '/run'].map((path) => canariesBelow(path, canaries, { since: began, except }));
  return (await Promise.all([...all, ...fresh])).flat();
}

/** The problems, each with the name of its server. */
const named = (name: string, { secrets }: CanaryServer): (readonly [string, string])[] =>
  Object.entries(secrets).map(([what, secret]) => [`${name}: ${what}`, secret] as const);

t.test('no secret of a remote target leaks, in success and in failure', async (t) => {
  const servers: [name: string, server: CanaryServer][] = [];
  for (const [name, open] of Object.entries(canaryServers)) servers.push([name, await open(t)]);
  const bed = await openBed(t, Object.keys(canaryServers));
  const { service, client } = bed;
  const canaries = new Canaries(Object.fromEntries(servers.flatMap(([name, server]) => named(name, server))));
  const all = servers.map(([, server]) => server);
  const watch = new ProcessWatch(service.child.pid ?? 0, canaries);
  try {
    await Promise.all(servers.map(([name, server]) => used(t, bed, name, server)));
  } finally {
    watch[Symbol.dispose]();
  }
  t.comment(`${watch.samples} samples of ${[...watch.commands].sort().join(' ')}; ${client.told.length / 2} answers`);
  t.same(watch.found, [], 'in no argument and no environment');
  for (const command of ['smbclient', 'rsync', 'tar', 'zstd']) t.ok(watch.commands.has(command), `${command} was seen at work`);
  t.same(canaries.in(client.told.join('\n')), [], 'in no answer');
  t.same(await inFiles(bed, all, canaries), [], 'in no file while the service runs');
  await service[Symbol.asyncDispose]();
  t.same(await inFiles(bed, all, canaries), [], 'nor when it has ended');
  t.ok(service.said.stderr.length > 0, 'it had something to say');
  t.same(canaries.in(service.said.stdout + service.said.stderr), [], 'and nothing of them');
});

t.test('the search finds planted secrets', async (t) => {
  const top = await mkdtemp(join(tmpdir(), 'planted-'));
  t.teardown(() => rm(top, { recursive: true }));
  const folder = join(top, 'deep/er');
  await mkdir(folder, { recursive: true });
  const [shown, told, kept] = [canary(), canary(), canary()];
  const canaries = new Canaries({ shown, told, kept });
  {
    using watch = new ProcessWatch(process.pid, canaries, { childrenOnly: true });
    const child = spawn('sleep', ['0.2'], { argv0: shown, env: { ...process.env, CANARY: told } });
    await once(child, 'exit');
    t.same(watch.found, ['shown in cmdline of sleep', 'told in environ of sleep']);
  }
  const forms = { plain: kept, hex: Buffer.from(kept).toString('hex'), base64: Buffer.from(`user:${kept}`).toString('base64') };
  for (const [name, text] of Object.entries(forms)) await writeFile(join(folder, name), `before ${text} after`);
  await writeFile(join(folder, 'wide'), Buffer.from(`before ${kept} after`, 'utf16le'));
  await writeFile(join(folder, 'across'), `${'.'.repeat((4 << 20) - 5)}${kept}${'.'.repeat(100)}`);
  await writeFile(join(folder, 'other'), canary());
  await writeFile(join(folder, told), '');
  const found = [
    `told in the name ${folder}/${told}`,
    ...[...Object.keys(forms), 'wide', 'across'].map((name) => `kept in ${folder}/${name}`),
  ];
  t.same((await canariesBelow(top, canaries, { since: began })).sort(), found.sort(), 'in files of the time since the suite began');
  t.same(await canariesBelow(top, canaries, { except: [folder] }), [], 'but not in what is left out');
  t.same(
    await canariesBelow(top, canaries, { since: Date.now() + 60_000 }),
    [`told in the name ${folder}/${told}`],
    'nor in what is older',
  );
  t.same(canaries.in(`x${shown}x`), ['shown'], 'and in what is said');
});
