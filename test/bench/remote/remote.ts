/** The second part of the bench: remote targets beside what people use instead, each to the same server over the same way. */
import { execFile } from 'node:child_process';
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { syncedToDisk } from '../contender.js';
import { foreignLoad, MemoryWatch } from '../processes.js';
import { directions, type RemoteCase, type RemotePeer, remoteCases, type Way, ways } from './cases.js';
import { type Direction, type Move, type RemoteContender, removeMemoryFile } from './contenders.js';
import { RemoteFigures, type RemoteRow } from './figures.js';
import { delayedWay, type RemoteServer, RemoteServers } from './servers.js';

const run = promisify(execFile);
/** For whoever works on a target: less is moved, and by targets only whose name begins so. */
const part = Number(process.env.BENCH_REMOTE_PART ?? 1);
const only = process.env.BENCH_REMOTE_TARGET ?? '';

export interface RemoteBench {
  readonly rounds: number;
  readonly rows: readonly RemoteRow[];
  /** How busy the machine was with something else before the rounds, 0 to 1. */
  readonly foreign: readonly number[];
  readonly cases: readonly RemoteCase[];
}

interface Options {
  readonly work: string;
  readonly rounds: number;
  readonly signal: AbortSignal;
  readonly say: (text: string) => void;
}

/** One case over one way. */
interface Course {
  readonly one: RemoteCase;
  readonly peers: readonly RemotePeer[];
  readonly server: RemoteServer;
  /** Of the server, or of the delayed way to it. */
  readonly port: number;
  readonly delay: number;
  readonly source: string;
  readonly bytes: number;
}

const contendersOf = ({ one, peers }: Course): readonly RemoteContender[] => [one.ours, ...peers.map(({ contender }) => contender)];

/** Not every peer can do both. */
const takesPart = (one: RemoteContender, { one: { ours } }: Course, direction: Direction): boolean =>
  one === ours || one.commands[direction] !== undefined;

class Remote {
  readonly figures = new RemoteFigures();
  readonly foreign: number[] = [];
  /** Folders of the server that hold a file's pieces, by the file's path. */
  readonly #pieces = new Map<string, string>();

  constructor(private readonly o: Options) {}

  async course(course: Course): Promise<void> {
    const all = contendersOf(course);
    for (let round = 1; round <= this.o.rounds; round++) {
      this.foreign.push(await foreignLoad());
      const order = all.map((_, at) => all[(at + round - 1) % all.length]).filter((one) => one !== undefined);
      for (const direction of directions)
        for (const one of order) if (takesPart(one, course, direction)) await this.#step(course, one, direction, round);
      await this.#removeStored(course);
    }
  }

  /** Another case may use the same server at the same time. */
  async #removeStored({ one, server: { folder } }: Course): Promise<void> {
    const own = (await readdir(folder)).filter((name) => name.startsWith(one.protocol));
    for (const name of own) await rm(join(folder, name), { recursive: true });
    if (one.protocol === 'rsync') await removeMemoryFile();
  }

  async #step(course: Course, contender: RemoteContender, direction: Direction, round: number): Promise<void> {
    const { one, server, port, delay, source, bytes } = course;
    this.o.signal.throwIfAborted();
    const name = `${one.protocol}-${contendersOf(course).indexOf(contender)}`;
    const stored = join(server.folder, name);
    await warmed(direction === 'write' ? [source] : await this.#filesOf(stored));
    await syncedToDisk(server.folder);
    const move: Move = { direction, server, port, name, source, work: this.o.work };
    const { seconds, durable, peak, pieces } = await timed(contender, move);
    if (direction === 'write') this.#pieces.delete(stored);
    if (pieces !== undefined) this.#pieces.set(stored, join(server.folder, pieces));
    if (direction === 'write') await this.#check(course, stored, round);
    this.figures.add({ target: one.target, delay, direction, contender: contender.name, round, bytes, seconds, durable, peak });
    const speed = `${(bytes / 1e6 / seconds).toFixed(0).padStart(5)} MB/s  ${(peak / 2 ** 20).toFixed(0).padStart(4)} MiB`;
    this.o.say(`${round}  ${one.target.padEnd(14)}  ${`${delay}`.padStart(3)} ms  ${direction.padEnd(5)}  ${speed}  ${contender.name}`);
  }

  /** What is on the server for a file. */
  async #filesOf(stored: string): Promise<string[]> {
    const pieces = this.#pieces.get(stored);
    if (pieces === undefined) return [stored];
    const names = (await readdir(pieces)).filter((name) => !name.startsWith('.'));
    return names.sort().map((name) => join(pieces, name));
  }

  /** What stored something else has not been measured. All bytes once, then the size. */
  async #check({ source, bytes }: Course, stored: string, round: number): Promise<void> {
    const files = await this.#filesOf(stored);
    const sizes = await Promise.all(files.map(async (file) => (await stat(file)).size));
    const sum = sizes.reduce((all, size) => all + size, 0);
    if (sum !== bytes) throw new Error(`${stored} has ${sum} instead of ${bytes} bytes`);
    if (round === 1) await run('sh', ['-c', 'source="$1"; shift; cat -- "$@" | cmp - "$source"', 'sh', source, ...files]);
  }

  rowsOf({ one, peers, delay }: Course): RemoteRow[] {
    return directions.flatMap((direction) =>
      peers
        .filter(({ contender }) => contender.commands[direction] !== undefined)
        .map(({ contender, wanted }) => this.figures.row({ target: one.target, delay, direction }, one.ours.name, contender.name, wanted)),
    );
  }
}

/** A machine may drop what was read a minute ago, and the figures would be those of its disk. */
async function warmed(files: readonly string[]): Promise<void> {
  await run('sh', ['-c', 'cat -- "$@" >/dev/null', 'sh', ...files]);
}

interface Timed {
  readonly seconds: number;
  readonly durable: number;
  readonly peak: number;
  readonly pieces?: string;
}

async function timed(contender: RemoteContender, move: Move): Promise<Timed> {
  const started = await contender.start(move);
  try {
    using memory = new MemoryWatch(started.pid, 'proportional');
    const began = performance.now();
    const { pieces } = await started.go();
    const seconds = (performance.now() - began) / 1000;
    const { peak } = memory;
    if (move.direction === 'write') await syncedToDisk(move.server.folder);
    const durable = move.direction === 'write' ? (performance.now() - began) / 1000 : seconds;
    return { seconds, durable, peak, ...(pieces !== undefined && { pieces }) };
  } finally {
    started.end();
  }
}

/** Bytes that nothing can make less of, unless they are there. */
async function makeSource(path: string, bytes: number): Promise<void> {
  const there = await stat(path).catch(() => undefined);
  if (there?.size !== bytes) await run('sh', ['-c', 'head -c "$1" /dev/urandom >"$2"', 'sh', `${bytes}`, path]);
}

async function over(way: Way, one: RemoteCase, remote: Remote, { servers, work }: { servers: RemoteServers; work: string }) {
  const { delay } = way;
  const bytes = Math.ceil(one.megabytes * part) * 1e6;
  const source = join(work, `source-${bytes}`);
  await makeSource(source, bytes);
  const server = servers.of(one.protocol);
  using delayed = await delayedWay(server.port, delay);
  const peers = one.peers.filter(({ near }) => delay === 0 || !near);
  const course: Course = { one, peers, server, port: delayed.port, delay, source, bytes };
  await remote.course(course);
  return remote.rowsOf(course);
}

/** Needs root, and room for some gigabytes. */
export async function benchRemote(o: Options): Promise<RemoteBench> {
  const work = join(o.work, 'remote');
  await mkdir(join(work, 'state'), { recursive: true, mode: 0o755 });
  process.env.TMPDIR = work; // a server keeps there what it stores
  await using servers = await RemoteServers.start(work);
  const remote = new Remote({ ...o, work });
  const cases = remoteCases.filter(({ target }) => target.startsWith(only));
  const rows: RemoteRow[] = [];
  for (const way of ways) {
    const here = cases.filter(({ near }) => way.delay === 0 || !near);
    const measure = (one: RemoteCase): Promise<RemoteRow[]> => over(way, one, remote, { servers, work });
    if (way.together) rows.push(...(await Promise.all(here.map(measure))).flat());
    else for (const one of here) rows.push(...(await measure(one)));
  }
  return { rounds: o.rounds, rows, foreign: remote.foreign, cases };
}
