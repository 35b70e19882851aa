/** Runs rsync over a channel of our own SSH connection. */
import type { ChildProcess } from 'node:child_process';
import { Duplex } from 'node:stream';
import { PluginError } from '../../../core/contract/index.js';
import { startChild } from '../../shared/primitives/child.js';
import { abortError } from '../../shared/source.js';
import { keepWindowOpen } from '../../shared/ssh/window.js';
import type { Remote, RemoteEnd } from './prestarted-commands.js';

/** Command that rsync starts in place of ssh. It writes the command for the server to descriptor 3, as a count and the arguments,
 *  and then only passes bytes between rsync and us: rsync lets it inherit the descriptors from 3 on. rsync waits for the process of
 *  the second `cat`, which ends with the channel. */
const bridge = `sh -c 'printf "%s\\0" "$#" "$@" >&3; exec 6<&0; cat <&6 >&5 4<&- & exec cat <&4 5>&- 6<&-' bridge`;

/** How long the server may take to end a command whose other side is gone. */
const farewell = 1_000;
/** Window of the channel, as ssh2 sets it by default: twice as much takes 60 MiB more. */
const room = 2 << 20;
const textLimit = 64 << 10;
const listLimit = 256 << 20;

export interface RunOptions {
  readonly signal: AbortSignal;
  /** Starts the command on the server. */
  readonly open: (command: string) => Promise<Remote>;
  /** Text for rsync's standard input. */
  readonly input?: string | undefined;
  /** An abort ends the run with success. */
  readonly enough?: AbortSignal | undefined;
  /** Reads no more than so many bytes of the server. */
  readonly limit?: number | undefined;
}

/** The result of a run. */
export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** The result of the command on the server; undefined if it was not started. */
  readonly remote: RemoteEnd | undefined;
}

/** Runs rsync to its end; `server:` names the other side. After an abort it waits a moment for the server to end its part, so that
 *  the next call finds nothing half done. @throws PluginError aborted, failed, and what `open` throws */
export async function runRsync(args: readonly string[], o: RunOptions): Promise<Ended> {
  if (o.signal.aborted) throw abortError('rsync');
  // keep rsync's own environment variables out; listed times are in the zone TZ
  const env = { RSYNC_OLD_ARGS: '0', RSYNC_PROTECT_ARGS: '0', RSYNC_ICONV: undefined, RSYNC_CHECKSUM_LIST: undefined, TZ: 'UTC' };
  const child = startChild('rsync', ['-8', '--blocking-io', '-e', bridge, ...args], {
    env,
    stdio: ['pipe', 'pipe', 'pipe', 'pipe', 'pipe', 'pipe'],
  });
  const kill = (): void => {
    child.kill('SIGKILL');
  };
  const stops = [o.signal, ...(o.enough === undefined ? [] : [o.enough])];
  for (const signal of stops) signal.addEventListener('abort', kill, { once: true });
  try {
    return await follow(child, o);
  } finally {
    kill();
    for (const descriptor of [0, 3, 4, 5]) child.stdio[descriptor]?.destroy();
    for (const signal of stops) signal.removeEventListener('abort', kill);
  }
}

async function follow(child: ChildProcess, o: RunOptions): Promise<Ended> {
  const said = { stdout: '', stderr: '' };
  collect(child, said);
  const ended = endOf(child);
  child.stdin?.on('error', () => undefined); // EPIPE: an rsync that reads nothing closes its input; its exit code counts
  child.stdin?.end(o.input ?? '');
  const command = await Promise.race([commandOf(pipeAt(child, 3)), ended.then(() => undefined)]);
  const remote = command === undefined ? undefined : await o.open(command);
  if (remote !== undefined) join(child, remote, o.limit);
  const code = await ended;
  const remoteEnd = remote === undefined ? undefined : await partWith(remote);
  await closed(child);
  if (o.signal.aborted) throw abortError('rsync');
  return { code: o.enough?.aborted ? 0 : code || farCode(remoteEnd), ...said, remote: remoteEnd };
}

/** rsync learns some failures of the server only from ssh's exit code, which the bridge cannot pass on. */
const farCode = (remote: RemoteEnd | undefined): number => (remote === undefined ? 20 : (remote.code ?? 12));

function collect(child: ChildProcess, said: { stdout: string; stderr: string }): void {
  const limits = { stdout: listLimit, stderr: textLimit };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name]?.setEncoding('utf8').on('data', (text: string) => {
      if (said[name].length < limits[name]) said[name] += text;
    });
  }
}

function endOf(child: ChildProcess): Promise<number> {
  const ended = new Promise<number>((resolve, reject) => {
    child.once('error', (cause) => reject(new PluginError('failed', 'rsync could not be started on this appliance', { cause })));
    child.once('exit', (code) => resolve(code ?? 20));
  });
  ended.catch(() => undefined); // awaited later
  return ended;
}

function pipeAt(child: ChildProcess, descriptor: number): Duplex {
  const pipe: unknown = child.stdio[descriptor];
  if (!(pipe instanceof Duplex)) throw new PluginError('failed', 'rsync could not be started on this appliance');
  return pipe;
}

/** Reads the command that rsync wants ssh to run. Its arguments are already escaped for a shell; ssh only joins them. */
function commandOf(pipe: Duplex): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    pipe.setEncoding('utf8').on('error', () => undefined);
    pipe.on('data', (chunk: string) => {
      text += chunk;
      const [count, , ...command] = text.split('\0'); // skips the first argument, the name of the host
      if (command.length >= Number(count)) resolve(command.slice(0, Number(count) - 1).join(' '));
    });
  });
}

/** Pipes bytes both ways with back-pressure. */
function join(child: ChildProcess, { channel, ended }: Remote, limit: number | undefined): void {
  const down = pipeAt(child, 4);
  const up = pipeAt(child, 5);
  for (const pipe of [down, up]) pipe.on('error', () => undefined); // if one side is gone, the result of the other shows it
  up.pipe(channel);
  keepWindowOpen(channel, room);
  channel.pipe(down);
  // rsync continues as long as its output seems to be read
  ended.then(() => up.destroy());
  child.once('exit', () => {
    channel.unpipe(down);
    channel.resume();
    down.destroy();
  });
  if (limit === undefined) return;
  let taken = 0;
  channel.on('data', (chunk: Uint8Array) => {
    taken += chunk.length;
    if (taken < limit) return;
    channel.unpipe(down);
    channel.pause();
  });
}

/** Waits for the end of the command on the server, `farewell` ms at most. */
async function partWith(remote: Remote): Promise<RemoteEnd> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<RemoteEnd>((resolve) => {
    timer = setTimeout(() => resolve({ code: undefined, text: '' }), farewell);
  });
  try {
    return await Promise.race([remote.ended, late]);
  } finally {
    clearTimeout(timer);
    remote.channel.destroy();
  }
}

/** Waits until the output is read to its end. A process that it started may hold it open, so it waits `farewell` ms at most. */
async function closed(child: ChildProcess): Promise<void> {
  const streams = [child.stdout, child.stderr];
  const timer = setTimeout(() => {
    for (const stream of streams) stream?.destroy();
  }, farewell);
  await Promise.all(
    streams.map((stream) => (stream === null || stream.closed ? undefined : new Promise((done) => stream.once('close', done)))),
  );
  clearTimeout(timer);
}
