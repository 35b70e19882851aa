import { randomBytes } from 'node:crypto';
import { type FileHandle, writeFile } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import type { Readable } from 'node:stream';
import { anySignal, PluginError, type Source } from '../../contract/index.js';
import { childExit, runForOutput } from '../../primitives/child.js';
import type { Compression } from '../record/layout.js';
import { zstdFlags } from './compress.js';
import { type FoundInList, type KnownFlags, ListSearch, type SearchedLevel } from './flag-search.js';
import { joinMoved, type MovedFiles } from './moved.js';
import { confineTar, heldElsewhere } from './sandbox.js';
import { copySnapshot, setReference } from './snapshot.js';
import { recordBlocks, TarMessages, type TarReport } from './tar-messages.js';

/** tar pipes into the compressor itself, on a kernel pipe. */
const compressor = `zstd ${zstdFlags.join(' ')}`;
/** Records between two checkpoint messages. */
const checkpointRecords = 640;
/** The kernel stamps ctime with a coarse clock, up to 10 ms behind, and the next level must see what was written between the sync and
 *  tar's start. The next level of a pause must not bring again all that the container wrote in its last second. */
const marginMs = 1000;
const pausedMarginMs = 50;

export interface LevelPlan {
  readonly source: Source;
  readonly compression: Compression;
  /** Snapshot file of the level before; undefined makes a level 0. */
  readonly since?: string;
  /** Path for the snapshot file of this level. */
  readonly snapshot: string;
  /** Epoch ms noted before the file system was synced, or after the container was paused. A file with a later stamp has changed; the
   *  next level compares with this time, less a margin. */
  readonly reference: number;
  /** Whether to look, when tar has ended, for files that changed since the reference. Otherwise a later level brings them again. */
  readonly looks: boolean;
  /** Whether a container is paused until tar ends; then nothing that can wait runs beside tar. */
  readonly inPause?: boolean;
  /** Inode flags of the level before. */
  readonly flagsBefore?: KnownFlags;
  /** Paths that tar leaves out, relative to the source, their bytes as latin-1: their blocks are stored beside. tar lists them in their
   *  folders as being there, so that an extraction keeps what the levels before have brought. */
  readonly leaveOut?: readonly string[];
}

/** The file into which tar lists names. On standard error each name would be a write of tar's and a read of ours: for 140,000
 *  names more than one second of six. Random, because the search of an aborted pass may end after the next one has begun. */
const listFile = ({ snapshot }: LevelPlan): string => `${snapshot}.${randomBytes(4).toString('hex')}.list`;

const leaveOutFile = ({ snapshot }: LevelPlan): string => `${snapshot}.leave-out`;

/** Names of our files in tar's sandbox. */
const names = { list: '/list', snapshot: '/snapshot', leaveOut: '/leave-out' } as const;

function tarArguments({ source, compression, leaveOut }: LevelPlan): string[] {
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
    ...(leaveOut === undefined ? [] : ['--no-wildcards', `--exclude-from=${names.leaveOut}`]),
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
  /** The files that changed or vanished while they were read; undefined when none did, or when nobody looks. Resolves a little after
   *  `read`. */
  readonly moved: Promise<MovedFiles | undefined>;
}

/** Packs a level. `onBytes` gets tar's progress in bytes before compression. @throws PluginError unavailable */
export async function packLevel(plan: LevelPlan, signal: AbortSignal, onBytes: (bytes: number) => void): Promise<PackedLevel> {
  // tar continues from an existing snapshot file; an empty one makes a level 0
  await (plan.since === undefined ? writeFile(plan.snapshot, '') : copySnapshot(plan.since, plan.snapshot));
  const list = listFile(plan);
  await writeFile(list, '');
  if (plan.leaveOut) await writeFile(leaveOutFile(plan), Buffer.from(plan.leaveOut.map((path) => `./${path}\n`).join(''), 'latin1'));
  const held = await heldElsewhere(plan.source.path);
  const run = new TarRun({ ...plan, list, held }, signal, onBytes);
  const { stream, report } = run;
  const searched = run.found.level.finally(() => held?.close());
  searched.catch(() => undefined); // the caller gets the error from `searched`; this only marks it as handled
  const read = readOf(stream, plan.source.path);
  const moved = read.then(() => (plan.looks ? run.moved() : undefined));
  moved.catch(() => undefined); // likewise
  return { stream, report, read, searched, moved };
}

/** A run of tar, and beside it the search for flags in tar's list. */
class TarRun {
  readonly stream: Readable;
  readonly found: FoundInList;
  readonly #messages: TarMessages;
  readonly #ended = new AbortController();

  constructor(
    private readonly plan: LevelPlan & { readonly list: string; readonly held: FileHandle | undefined },
    signal: AbortSignal,
    onBytes: (bytes: number) => void,
  ) {
    const tree = { kind: plan.source.kind, path: plan.source.path, access: 'read', held: plan.held } as const;
    const leftOut = plan.leaveOut && { [names.leaveOut]: leaveOutFile(plan) };
    const files = { [names.list]: plan.list, [names.snapshot]: plan.snapshot, ...leftOut };
    const child = confineTar({ ...tree, files }, tarArguments(plan), ['ignore', 'pipe', 'pipe']);
    this.#messages = new TarMessages(onBytes);
    child.stderr?.setEncoding('utf8').on('data', (text: string) => this.#messages.take(text));
    const exit = childExit(child, 'tar', signal);
    this.stream = runForOutput(child, async () => this.#end(await exit));
    const given = new AbortController();
    this.stream.once('close', () => this.#ended.signal.aborted || given.abort()); // the reader gave up, or tar failed
    const { list, looks, flagsBefore: known = {}, leaveOut: unlisted = [], inPause = false } = plan;
    const since = plan.reference + 1; // the reference is cut to a millisecond, and stamps are not
    const search = { tree, list, known, unlisted, ended: this.#ended.signal, inPause, since, looks };
    this.found = new ListSearch(search, anySignal(signal, given.signal)).go();
  }

  /** Asked when tar has ended. */
  async moved(): Promise<MovedFiles | undefined> {
    return joinMoved(this.#messages, await this.found.moved);
  }

  get report(): TarReport {
    return this.#messages.report;
  }

  async #end(code: number): Promise<void> {
    const { plan } = this;
    const { problems, hasMoved } = this.#messages;
    const tolerated = problems.length === 0 && (code === 0 || (hasMoved && code <= 2));
    if (!tolerated) {
      const said = problems.join('; ') || `exit code ${code}`;
      if (/No space left on device|Disk quota exceeded/.test(said))
        throw new PluginError(
          'no_space',
          `the disk is full, tar cannot write its work files (${said}): free some space in ${dirname(plan.snapshot)}`,
        );
      throw new PluginError('failed', `reading ${plan.source.name} (${plan.source.path}) failed: ${said}`);
    }
    const margin = plan.inPause ? pausedMarginMs : marginMs;
    if (plan.source.kind === 'folder') await setReference(plan.snapshot, plan.reference - margin);
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
