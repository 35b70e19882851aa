import { randomBytes } from 'node:crypto';
import { type FileHandle, writeFile } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import type { Readable } from 'node:stream';
import { anySignal, PluginError, type Source } from '../../contract/index.js';
import { childExit, runForOutput } from '../../primitives/child.js';
import type { Compression } from '../record/layout.js';
import { zstdFlags } from './compress.js';
import { FlagSearch, type KnownFlags, type SearchedLevel } from './flag-search.js';
import { confineTar, heldElsewhere } from './sandbox.js';
import { copySnapshot, setReference } from './snapshot.js';

/** tar pipes into the compressor itself, on a kernel pipe. */
const compressor = `zstd ${zstdFlags.join(' ')}`;
/** tar's blocking factor, in blocks of 512 bytes. tar's default, 20, took a tenth more processor time. */
const recordBlocks = 64;
const recordBytes = recordBlocks * 512;
/** Records between two checkpoint messages. */
const checkpointRecords = 640;

export interface LevelPlan {
  readonly source: Source;
  readonly compression: Compression;
  /** Snapshot file of the level before; undefined makes a level 0. */
  readonly since?: string;
  /** Path for the snapshot file of this level. */
  readonly snapshot: string;
  /** Epoch ms noted before the file system was synced; the next level compares with this time, less a second. */
  readonly reference: number;
  /** Whether the container is frozen or stopped; then any change while reading is a failure. */
  readonly still: boolean;
  /** Whether a container is paused until tar ends; then nothing that can wait runs beside tar. */
  readonly inPause?: boolean;
  /** Inode flags of the level before. */
  readonly flagsBefore?: KnownFlags;
}

export interface TarReport {
  bytes: number; // of the tar stream before compression
  /** A file has further hard links that are not in this level. */
  outside_links?: true;
}

const harmless = [
  /: Directory has been renamed from /,
  /: Directory has been renamed$/,
  /: socket ignored$/,
  /: (file|directory) is on a different filesystem; not dumped$/, // the runtime's description lists it in left_out
  /: contains a cache directory tag/,
  /^tar: Total bytes written: /,
  /^tar: checkpoint /,
];
const live = [
  /: file changed as we read it$/,
  /: File removed before we read it$/,
  /: File shrank by \d+ bytes; padding with zeros$/,
  /: Cannot (stat|open|readlink|read|savedir|opendir): (No such file or directory|Stale file handle)$/,
  /: Warning: Cannot .*: No such file or directory$/,
  /: (Directory|File) .*removed before we read it$/,
  /^tar: Exiting with failure status due to previous errors$/,
];

/** The file into which tar lists names. On standard error each name would be a write of tar's and a read of ours: for 140,000
 *  names more than one second of six. Random, because the search of an aborted pass may end after the next one has begun. */
const listFile = ({ snapshot }: LevelPlan): string => `${snapshot}.${randomBytes(4).toString('hex')}.list`;

/** Parses tar's messages line by line: reports checkpoints, stores what is not harmless. */
class TarMessages {
  readonly report: TarReport = { bytes: 0 };
  readonly problems: string[] = [];
  /** A change that a live pass may meet was reported; it explains an exit code of 1 or 2. */
  excused = false;
  #rest = '';
  constructor(
    readonly still: boolean,
    readonly onBytes: (bytes: number) => void,
  ) {}

  take(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#line(line);
  }

  #line(line: string): void {
    const total = /^Total bytes written: (\d+)/.exec(line.replace(/^tar: /, ''));
    const checkpoint = /^tar: checkpoint (\d+)/.exec(line);
    if (total) this.report.bytes = Number(total[1]);
    else if (line.startsWith('tar: Missing links to ')) this.report.outside_links = true;
    else if (checkpoint) this.onBytes(Number(checkpoint[1]) * recordBytes);
    else if (!this.still && live.some((pattern) => pattern.test(line))) this.excused = true;
    else if (line !== '' && !harmless.some((pattern) => pattern.test(line)) && this.problems.length < 20) this.problems.push(line);
  }
}

/** Names of our files in tar's sandbox. */
const names = { list: '/list', snapshot: '/snapshot' } as const;

function tarArguments({ source, compression }: LevelPlan): string[] {
  return [
    '--create',
    '--file=-',
    `--blocking-factor=${recordBlocks}`,
    '--format=posix',
    '--xattrs',
    '--xattrs-include=*',
    '--acls',
    '--sparse',
    '--numeric-owner',
    '--one-file-system',
    '--verbose',
    `--index-file=${names.list}`,
    '--warning=no-new-directory',
    '--totals',
    `--checkpoint=${checkpointRecords}`,
    '--checkpoint-action=echo=checkpoint %u',
    ...(compression === 'zstd' ? [`--use-compress-program=${compressor}`] : []),
    ...(source.kind === 'folder' ? ['--check-links', '--no-check-device', `--listed-incremental=${names.snapshot}`] : []),
    '--anchored',
    ...source.excludes.map((pattern) => `--exclude=${pattern}`),
    '--no-anchored',
    '--',
    source.kind === 'folder' ? '.' : `./${basename(source.path)}`,
  ];
}

export interface PackedLevel {
  /** The stored bytes. Fails with `failed` or `no_space` when tar does, so that a target never stores a part. */
  readonly stream: Readable;
  /** tar's totals; valid after the end of the stream. */
  readonly report: TarReport;
  /** Resolves when tar has ended well and reads no more files of the source. It does not wait for a slow target, as long as the
   *  rest fits into the stream's buffer of 1 MiB. */
  readonly read: Promise<void>;
  /** Number of packed entries and their inode flags; resolves a little after `read`. */
  readonly searched: Promise<SearchedLevel>;
}

/** Packs a level. `onBytes` gets tar's progress in bytes before compression. @throws PluginError unavailable */
export async function packLevel(plan: LevelPlan, signal: AbortSignal, onBytes: (bytes: number) => void): Promise<PackedLevel> {
  // tar continues from an existing snapshot file; an empty one makes a level 0
  await (plan.since === undefined ? writeFile(plan.snapshot, '') : copySnapshot(plan.since, plan.snapshot));
  const list = listFile(plan);
  await writeFile(list, '');
  const held = await heldElsewhere(plan.source.path);
  const { stream, report, searched } = new TarRun({ ...plan, list, held }, signal, onBytes);
  const ended = searched.finally(() => held?.close());
  ended.catch(() => undefined); // the caller gets the error from `searched`; this only marks it as handled
  return { stream, report, read: readOf(stream, plan.source.path), searched: ended };
}

/** A run of tar, and beside it the search for flags in tar's list. */
class TarRun {
  readonly stream: Readable;
  readonly searched: Promise<SearchedLevel>;
  readonly #messages: TarMessages;
  readonly #ended = new AbortController();

  constructor(
    private readonly plan: LevelPlan & { readonly list: string; readonly held: FileHandle | undefined },
    signal: AbortSignal,
    onBytes: (bytes: number) => void,
  ) {
    const tree = { kind: plan.source.kind, path: plan.source.path, access: 'read', held: plan.held } as const;
    const files = { [names.list]: plan.list, [names.snapshot]: plan.snapshot };
    const child = confineTar({ ...tree, files }, tarArguments(plan), ['ignore', 'pipe', 'pipe']);
    this.#messages = new TarMessages(plan.still, onBytes);
    child.stderr?.setEncoding('utf8').on('data', (text: string) => this.#messages.take(text));
    const exit = childExit(child, 'tar', signal);
    this.stream = runForOutput(child, async () => this.#end(await exit));
    const given = new AbortController();
    this.stream.once('close', () => this.#ended.signal.aborted || given.abort()); // the reader gave up, or tar failed
    const search = { tree, list: plan.list, known: plan.flagsBefore ?? {}, ended: this.#ended.signal, inPause: plan.inPause ?? false };
    this.searched = new FlagSearch(search, anySignal(signal, given.signal)).go();
  }

  get report(): TarReport {
    return this.#messages.report;
  }

  async #end(code: number): Promise<void> {
    const { plan } = this;
    const { problems, excused } = this.#messages;
    const tolerated = problems.length === 0 && (code === 0 || (excused && code <= 2));
    if (!tolerated) {
      const said = problems.join('; ') || `exit code ${code}`;
      if (/No space left on device|Disk quota exceeded/.test(said))
        throw new PluginError(
          'no_space',
          `the disk is full, tar cannot write its work files (${said}): free some space in ${dirname(plan.snapshot)}`,
        );
      throw new PluginError('failed', `reading ${plan.source.name} (${plan.source.path}) failed: ${said}`);
    }
    if (plan.source.kind === 'folder') await setReference(plan.snapshot, plan.reference);
    this.#ended.abort();
    this.stream.emit(readEvent);
  }
}

const readEvent = 'container-backup:read';

function readOf(stream: Readable, path: string): Promise<void> {
  const read = new Promise<void>((resolve, reject) => {
    stream.once(readEvent, resolve);
    stream.once('error', reject);
    stream.once('close', () => reject(new PluginError('failed', `${path} was not read to its end`)));
  });
  read.catch(() => undefined); // the reader of the stream gets the error, too
  return read;
}
