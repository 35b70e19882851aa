/** Opens a plugin with hostile values, which its schema has accepted as in the service. */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Test } from 'tap';
import { PluginError, type Target } from '../../../core/contract/index.js';
import type { Plugins } from '../../../core/plugins/index.js';
import { never, read, store } from '../../conformance/target/support.js';
import { Smbd } from '../../support/servers/smbd.js';
import { startSshd } from '../../support/servers/sshd.js';
import { errorOf, expected, holds, Surroundings, type Tally } from './paths.js';
import { isText, pick, type Random, shownValue } from './values.js';

/** Files beside the targets that no value may reach. */
export async function decoys(folder: string): Promise<void> {
  for (const name of ['x', 'a', 'etc/passwd', 'x.pieces/0001-000001', '~root/x', 'tmp/x', 'y', 'beside 0/x']) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), 'not yours');
  }
}

export interface Server {
  readonly kind: 'smb' | 'sftp' | 'rsync';
  /** Good options. */
  readonly good: Readonly<Record<string, unknown>> & { readonly host: string; readonly username: string };
  /** Base of the values' bases, and its folder on this machine. */
  readonly base: string;
  readonly folder: string;
}

export interface Servers {
  readonly all: readonly Server[];
  readonly around: readonly Surroundings[];
  /** The servers' folders on this machine. */
  readonly folders: readonly string[];
}

/** Starts a server of each kind, which ends with the test. rsync goes through the login's shell. */
export async function openServers(t: Test): Promise<Servers> {
  const ssh = await startSshd({ user: true });
  t.teardown(() => ssh.stop());
  const smbd = await Smbd.start();
  t.teardown(() => smbd[Symbol.asyncDispose]());
  for (const folder of [ssh.home, smbd.folder]) await decoys(folder);
  const { privateKey } = await ssh.newKey('ed25519');
  const { host, port, user: username, password, fingerprints, home } = ssh;
  const byKey = { host, port, username, privateKey, hostKey: fingerprints.ed25519 };
  const byPassword = { host, port, username, password, hostKey: fingerprints.ed25519 };
  const folder = join(home, 'place');
  const samba = { host: smbd.host, port: smbd.port, username: smbd.user, password: smbd.password };
  return {
    all: [
      { kind: 'sftp', good: byPassword, base: '~/place', folder },
      { kind: 'rsync', good: byKey, base: '~/place', folder },
      { kind: 'rsync', good: byKey, base: folder.slice(1), folder },
      { kind: 'smb', good: samba, base: `${smbd.share}/place`, folder: join(smbd.folder, 'place') },
    ],
    around: [await Surroundings.of(ssh.folder, ['log', 'home/place']), await Surroundings.of(smbd.folder, ['place'])],
    folders: [ssh.folder, smbd.root],
  };
}

export interface Opening {
  readonly plugins: Plugins;
  readonly random: Random;
  readonly server: Server;
}

type Key = 'base' | 'username' | 'host' | 'share';
let openings = 0;

interface Wish {
  readonly options: Readonly<Record<string, unknown>>;
  /** Where a file `f` must lie on the server, below `folder`, once it is stored; undefined when the target must not open. */
  readonly kept?: { readonly folder: string; readonly path: string };
}

function wishOf({ random, server }: Opening, key: Key, value: string): Wish {
  const { good, base, folder } = server;
  if (key === 'base') {
    const own = `${openings++}`;
    return { options: { ...good, base: `${base}/${own}/${value}` }, kept: { folder: join(folder, own), path: `${value}/f` } };
  }
  // on an SSH server that is a folder of its root, which the test only reads
  if (key === 'share') return { options: { ...good, base: value } };
  if (key === 'host')
    return { options: { ...good, host: pick(random, [value, `${good.host}${value}`, `[${value}]`, `${value}.invalid`]) } };
  return { options: { ...good, username: pick(random, [value, `${good.username}${value}`, `${value}${good.username}`, `x\\${value}`]) } };
}

const keys: readonly Key[] = ['base', 'base', 'base', 'username', 'host', 'share'];

/** Words that appear only when a plugin or a server took a value for something else. */
const odd: readonly string[] = ['failed', 'damaged', 'aborted', 'stalled', 'io', 'no_space', 'in_use', 'conflict'];

/** Whether the server takes the name for its user: the name of an SMB user may begin with a domain, and sshd cuts off the text after a
 *  colon or a slash. */
function mayLogIn(asked: string, user: string): boolean {
  const at = asked.indexOf(user);
  const [before, after] = [asked.slice(0, at), asked.slice(at + user.length)];
  return at === 0 ? /^[:/]/.test(after) : after === '' && /[\\/]$/.test(before);
}

/** Opens a target. If it opens, stores a file, looks for it on the server, and removes it. */
export async function tryOpening(o: Opening, value: string, tally: Tally): Promise<void> {
  const key = pick(o.random, keys);
  const { kind, good } = o.server;
  const { options, kept } = wishOf(o, key, value);
  const problem = (what: string): void => void tally.problems.push(`${kind} ${key}: ${what}: ${shownValue(value)}`);
  let target: Target | undefined;
  const opening = o.plugins.openTarget(kind, options, { signal: AbortSignal.timeout(30_000), log: () => undefined });
  const error = await errorOf(opening.then((opened) => (target = opened)));
  if (target === undefined) {
    if (!(error instanceof PluginError)) return problem(`open threw ${shownValue(String(error))}`);
    tally.refused++;
    const told = `${kind} ${key} ${error.code}`;
    tally.codes.set(told, (tally.codes.get(told) ?? 0) + 1);
    if (odd.includes(error.code)) problem(`open gave ${error.code} (${shownValue(error.message)})`);
    return;
  }
  tally.stored++;
  await using opened = target;
  if (!isText(value)) problem('what is no text was taken');
  if (key === 'username' && !mayLogIn(String(options.username), good.username))
    problem(`${shownValue(String(options.username))} was let in`);
  if (kept !== undefined && !/\.container-backup-[0-9a-f]{16}\.part\//.test(kept.path))
    for (const what of await misplaced(opened, kept)) problem(what);
}

/** Problems of the path at which a file of the opened target lies on the server. */
async function misplaced(target: Target, { folder, path }: { readonly folder: string; readonly path: string }): Promise<string[]> {
  const bytes = `bytes of ${path}`;
  const failed = await errorOf(store(target, 'f', bytes));
  if (failed !== undefined) {
    const told = failed instanceof PluginError && ['invalid', 'unsupported', 'exists'].includes(failed.code);
    return told ? [] : [`put gave ${failed instanceof PluginError ? failed.code : ''} ${shownValue(String(failed))}`];
  }
  const found: string[] = [];
  const there = await holds(folder, { inside: true });
  if (JSON.stringify(there) !== JSON.stringify(expected(path))) found.push(`on the server: ${shownValue(there.join(' '))}`);
  const back = await target.get('f', { signal: never() }).then(read).catch(String);
  if (String(back) !== String(Buffer.from(bytes))) found.push(`get gave ${shownValue(String(back))}`);
  const removed = await errorOf(target.remove('f'));
  if (removed !== undefined) found.push(`remove gave ${shownValue(String(removed))}`);
  if ((await holds(folder, { inside: true })).some((one) => one.endsWith('/f'))) found.push('f was not removed');
  return found;
}
