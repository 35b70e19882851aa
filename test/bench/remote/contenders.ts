/** Who moves a file to and from a server: a remote target, and what people use instead. */
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { nodeFlags } from '../../support/service-command.js';
import { type Answer, isAnswer, type Request } from './child.js';
import type { Protocol, RemoteServer } from './servers.js';

export type Direction = 'write' | 'read';

/** One move of the file, of which nothing has begun. */
export interface Move {
  readonly direction: Direction;
  readonly server: RemoteServer;
  /** Of the server, or of the delayed way to it. */
  readonly port: number;
  /** The file's name on the server. */
  readonly name: string;
  readonly source: string;
  /** For what belongs to the bench. */
  readonly work: string;
}

export interface Started {
  /** Its memory is that of this process and its descendants. */
  readonly pid: number;
  /** Begins, and waits for the end. */
  go(): Promise<{ readonly pieces?: string }>;
  /** Ends what is left of it. */
  end(): void;
}

export interface RemoteContender {
  readonly name: string;
  /** What it does, for the reader who wants to do it again. */
  readonly commands: Readonly<Partial<Record<Direction, string>>>;
  start(move: Move): Promise<Started>;
}

const childScript = fileURLToPath(new URL('child.js', import.meta.url));
const host = '127.0.0.1';

function messageOf(child: ChildProcess): Promise<unknown> {
  return new Promise((resolve, reject) => {
    child.once('message', resolve);
    child.once('exit', (code) => reject(new Error(`the process of the target ended with ${code}`)));
  });
}

/** Ours, in a process of its own that is there before: a service does not start for each file. */
export function ourTarget(plugin: Protocol, more: Readonly<Record<string, unknown>> = {}): RemoteContender {
  return {
    name: 'ours',
    commands: {},
    async start(move) {
      const { server, port, direction, name: path, source } = move;
      const child = fork(childScript, [join(move.work, 'state'), plugin], { execArgv: [...nodeFlags] });
      await messageOf(child);
      const request: Request = { plugin, options: { host, port, ...server.options, ...more }, direction, path, source };
      const go = async (): Promise<{ readonly pieces?: string }> => {
        const answer = messageOf(child);
        child.send(request);
        return checkedAnswer(await answer);
      };
      return { pid: child.pid ?? 0, go, end: () => void child.kill('SIGKILL') };
    },
  };
}

function checkedAnswer(answer: unknown): Answer {
  if (!isAnswer(answer)) throw new Error('the target gave no answer');
  if (answer.error !== undefined) throw new Error(`the target failed: ${answer.error}`);
  return answer;
}

/** A program with its arguments, and what it reads and writes. */
interface Call {
  readonly command: readonly string[];
  /** A file that is its standard input. */
  readonly from?: string;
  /** What is its standard input. */
  readonly input?: string;
}

/** A peer begins with the start of its program. */
function peer(name: string, commands: RemoteContender['commands'], callOf: (move: Move) => Promise<Call>): RemoteContender {
  const start = async (move: Move): Promise<Started> => {
    const call = await callOf(move);
    const [command = '', ...args] = call.command;
    const file = call.from === undefined ? undefined : await open(call.from);
    // it waits for a line before it becomes the program: its memory is watched from its beginning
    const child = spawn('sh', ['-c', 'read -r _ <&3; exec 3<&- "$@"', 'sh', command, ...args], {
      stdio: [file?.fd ?? 'pipe', 'ignore', 'pipe', 'pipe'],
    });
    await file?.close();
    const ended = endOf(child, name);
    const gate = child.stdio[3];
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(call.input ?? '');
    const go = async (): Promise<Record<string, never>> => {
      if (gate && 'write' in gate) gate.end('\n');
      await ended;
      return {};
    };
    return { pid: child.pid ?? 0, go, end: () => void child.kill('SIGKILL') };
  };
  return { name, commands, start };
}

function endOf(child: ChildProcess, name: string): Promise<void> {
  let said = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-4096);
  });
  const ended = new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => (code === 0 ? resolve() : reject(new Error(`${name} ended with ${code ?? signal}: ${said}`))));
  });
  ended.catch(() => undefined); // asked for later
  return ended;
}

type Protection = 'sign' | 'encrypt';

const smbclient = ({ server, port }: Move, protection: Protection, command: string): readonly string[] => [
  ...['smbclient', `//${host}/data`, '-p', `${port}`, ...server.login, `--client-protection=${protection}`, '-c', command],
];

export function smbclientFile(name: string, protection: Protection): RemoteContender {
  const shown = (command: string): string => `smbclient //nas/data -A login --client-protection=${protection} -c '${command}'`;
  return peer(name, { write: shown('put FILE name'), read: shown('get name /dev/null') }, async (move) => ({
    command: smbclient(move, protection, move.direction === 'write' ? `put "${move.source}" ${move.name}` : `get ${move.name} /dev/null`),
  }));
}

/** As a stream has to be sent, whose length nobody knows before its end. */
export function smbclientPipe(name: string, protection: Protection): RemoteContender {
  const shown = `cat FILE | smbclient //nas/data -A login --client-protection=${protection} -c 'put - name'`;
  return peer(name, { write: shown }, async (move) => ({
    command: ['sh', '-c', 'cat -- "$0" | "$@"', move.source, ...smbclient(move, protection, `put - ${move.name}`)],
  }));
}

export function opensshSftp(name: string): RemoteContender {
  const commands = { write: `echo 'put -f FILE name' | sftp -b - nas`, read: `echo 'get name /dev/null' | sftp -b - nas` };
  return peer(name, commands, async ({ server, port, direction, source, name: file }) => ({
    command: ['sftp', '-q', '-b', '-', '-P', `${port}`, ...server.login, `${server.user}@${host}`],
    input: direction === 'write' ? `put -f "${source}" "${server.folder}/${file}"\n` : `get "${server.folder}/${file}" /dev/null\n`,
  }));
}

export function sshCat(name: string, more: readonly string[] = []): RemoteContender {
  const shown = ['ssh', ...more, 'nas'].join(' ');
  const commands = { write: `${shown} 'cat >name' <FILE`, read: `${shown} 'cat name' >/dev/null` };
  return peer(name, commands, async ({ server, port, direction, source, name: file }) => {
    const command = ['ssh', ...more, '-p', `${port}`, ...server.login, `${server.user}@${host}`];
    if (direction === 'write') return { command: [...command, `cat >'${server.folder}/${file}'`], from: source };
    return { command: [...command, `cat '${server.folder}/${file}'`] };
  });
}

/** rsync reads into memory: it writes files only, beside what is to be replaced. */
const memoryFile = `/dev/shm/container-backup-bench-${process.pid}`;

export function rsyncWhole(name: string): RemoteContender {
  const commands = { write: 'rsync -W --fsync FILE nas:name', read: 'rsync -W nas:name /dev/shm/name' };
  return peer(name, commands, async ({ server, port, direction, source, name: file }) => {
    await removeMemoryFile();
    const remote = `${server.user}@${host}:${server.folder}/${file}`;
    const shell = ['ssh', '-p', `${port}`, ...server.login].join(' ');
    return {
      command: [
        'rsync',
        '-W',
        ...(direction === 'write' ? ['--fsync'] : []),
        '-e',
        shell,
        ...(direction === 'write' ? [source, remote] : [remote, memoryFile]),
      ],
    };
  });
}

export const removeMemoryFile = (): Promise<void> => rm(memoryFile, { force: true });
