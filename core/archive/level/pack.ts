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

/** The compressor sits behind tar on a kernel pipe. */
const compressor = `zstd ${zstdFlags.join(' ')}`;
/** What tar writes at a time, in blocks of 512 bytes. Its own default, 20, took a tenth more of its processor time. */
const recordBlocks = 64;
const recordBytes = recordBlocks * 512;
/** A checkpoint is told every so many of them. */
const checkpointRecords = 640;

export interface LevelPlan {
  readonly source: Source;
  readonly compression: Compression;
  /** Snapshot file that this level starts from; undefined makes a level 0. */
  readonly since?: string;
  /** Where the snapshot of this level is left. */
  readonly snapshot: string;
  /** Epoch ms noted before the file system was synced; the next level looks from here, less a second. */
  readonly reference: number;
  /** Whether the container is frozen or stopped, so that any change while reading is a failure. */
  readonly still: boolean;
  /** Whether a container waits for it, so that nothing else that could wait is begun beside tar. */
  readonly inPause?: boolean;
  /** What the level before has of inode flags. */
  readonly flagsBefore?: KnownFlags;
}

export interface TarReport {
  bytes: number; // of the tar stream before compression
  /** A file has names that are not in this level. */
  outside_links?: true;
}

const harmless = [
  /: Directory has been renamed from /,
  /: Directory has been renamed$/,
  /: socket ignored$/,
  /: (file|directory) is on a different filesystem; not dumped$/, // the runtime's description names it as left out
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

/** Where tar lists what it packs. On its standard error every name would be a write of its own and a read of ours: with
 *  140,000 of them that took longer than a second of six. No other pass has it: a search that is given up may end after the next
 *  try has begun. */
const listFile = ({ snapshot }: LevelPlan): string => `${snapshot}.${randomBytes(4).toString('hex')}.list`;

/** Reads tar's messages line by line: follows the checkpoints, keeps what is not harmless. */
class TarMessages {
  readonly report: TarReport = { bytes: 0 };
  readonly problems: string[] = [];
  /** It told of something that a live pass may meet, which explains an exit code of 1 or 2. */
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

/** Our files as tar sees them. */
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
  /** The stored bytes. Fails with `failed` when tar does, so that nothing half-read is ever put away. */
  readonly stream: Readable;
  /** tar's totals; they hold after the stream's end. */
  readonly report: TarReport;
  /** tar has ended well: no file of the source is read any more. A target that takes its time is not waited for, as
   *  long as what is left fits the stream's buffer of 1 MiB. */
  readonly read: Promise<void>;
  /** What was packed, and its inode flags: known a little later than all is read. */
  readonly searched: Promise<SearchedLevel>;
}

/** Packs a level. `onBytes` is told how far tar is. */
export async function packLevel(plan: LevelPlan, signal: AbortSignal, onBytes: (bytes: number) => void): Promise<PackedLevel> {
  // tar would go on from one that is there; an empty one makes a level 0
  await (plan.since === undefined ? writeFile(plan.snapshot, '') : copySnapshot(plan.since, plan.snapshot));
  const list = listFile(plan);
  await writeFile(list, '');
  const held = await heldElsewhere(plan.source.path);
  const { stream, report, searched } = new TarRun({ ...plan, list, held }, signal, onBytes);
  const ended = searched.finally(() => held?.close());
  ended.catch(() => undefined); // whoever takes it is told; nobody may be waiting yet
  return { stream, report, read: readOf(stream, plan.source.path), searched: ended };
}

/** tar and, beside it, the search for flags in what it lists. */
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
    this.stream.once('close', () => this.#ended.signal.aborted || given.abort()); // nobody takes it, or tar failed
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
        throw new PluginError('no_space', `there is no room for the work files of a run (${said}): free some in ${dirname(plan.snapshot)}`);
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
  read.catch(() => undefined); // whoever takes the stream is told too
  return read;
}
