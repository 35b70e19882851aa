/** The manifest of a run: schemas/record/manifest.json, and rules that no schema can express. */
import { PluginError } from '../../contract/index.js';
import { isFields } from '../../primitives/guards.js';
import { parseOwn, type Shape, ValidationError } from '../../schemas.js';
import { isFlaggedPath } from '../level/flags.js';
import { parseBoundedJson } from './json-text.js';
import { isRecordPath, isRunName, type RecordPath } from './layout.js';
import { closeFile, openFile } from './manifest-file.js';

type Written = Shape<'manifest'>;
type WrittenArchive = Written['archives'][number];

/** A stored file: `sha256` is of the bytes on the target, so that sha256sum can check it. */
export interface StoredFile {
  readonly path: RecordPath;
  readonly stored_bytes: number;
  readonly sha256: string;
  /** Set when the target stores a large file as pieces in this folder of the record; joined in order of name they are the file. */
  readonly pieces?: { readonly folder: RecordPath; readonly count: number };
}

/** A stored block table; `hash_bytes`: bytes of the hashes, before the index. */
export type StoredTableFile = StoredFile & { readonly hash_bytes: number };

/** One level: a tar, and beside it the blocks of big files. A source's levels are extracted in the order of `archives`; `bytes` and
 *  `entries` are of both, before compression. `outside_links`: some file has hard links that are not in this level, because they are
 *  outside the source or excluded. */
export type ArchiveEntry = Omit<WrittenArchive, keyof StoredFile | 'snapshot' | 'blocks' | 'table'> &
  StoredFile & {
    /** GNU tar's snapshot of this level, zstd; only where later runs build on it. */
    readonly snapshot?: StoredFile;
    /** Blocks of big files that differ from the level before, a tar with the compression of the level. */
    readonly blocks?: StoredFile;
    /** The block table of this level; only where later runs build on it. */
    readonly table?: StoredTableFile;
  };

/** What a restore of the level reads, in this order. */
export const restoredFilesOf = (archive: ArchiveEntry): readonly StoredFile[] => [archive, ...(archive.blocks ? [archive.blocks] : [])];

/** All files of a level. */
export const filesOf = (archive: ArchiveEntry): readonly StoredFile[] => [
  ...restoredFilesOf(archive),
  ...(archive.snapshot ? [archive.snapshot] : []),
  ...(archive.table ? [archive.table] : []),
];

/** Stored bytes that a restore of the level reads. */
export const storedBytesOf = (archive: ArchiveEntry): number =>
  restoredFilesOf(archive).reduce((bytes, { stored_bytes }) => bytes + stored_bytes, 0);

/** `excludes`: patterns that later levels on this base must exclude, too. */
export type StoredSource = Written['sources'][number];

/** Tells an appliance its own manifests from those of anybody else who can write to the target. `mac`: HMAC-SHA-256 in hex, with
 *  the appliance's key; seal.ts says over what. */
export interface Seal {
  readonly appliance: string;
  readonly mac: string;
}

export type Manifest = Omit<Written, 'archives' | 'seal' | 'sha256'> & {
  readonly archives: readonly ArchiveEntry[];
  readonly seal?: Seal;
};
/** What the schema has checked. */
type Checked = Omit<Manifest, 'archives' | 'seal'> & Pick<Written, 'archives'> & { readonly seal?: unknown };
/** Of a run that is made now. */
export type NewManifest = Manifest & { readonly format: 2 };

export const imageSource = '@image';
/** What a reader must know to restore a run as a whole. `blocks`: big files are stored by blocks. */
export const mustKnow = { blocks: 'blocks' } as const;
const newestFormat = 2;
/** Most characters of a reason in a message; it may quote the manifest. */
const mostWords = 300;

/** Of each manifest of format 2 that was read: SHA-256 in hex of the bytes that its seal covers. */
const sealedHashes = new WeakMap<Manifest, string>();
/** @returns undefined without a seal, for format 1, and for any copy of a manifest, which may have been changed */
export const sealedHashOf = (manifest: Manifest): string | undefined => sealedHashes.get(manifest);

/** The file's content. */
export const manifestText = (manifest: NewManifest): string => closeFile(manifest);

const pathsOf = (archive: WrittenArchive): (string | undefined)[] =>
  [archive, archive.snapshot, archive.blocks, archive.table].flatMap((file) => [file?.path, file?.pieces?.folder]);
const isPlaced = (written: Checked): written is Manifest =>
  written.archives.flatMap(pathsOf).every((path) => path === undefined || isRecordPath(path));

/** The first name that occurs twice: two such sources would be extracted into each other. */
function twice(names: readonly string[]): string | undefined {
  const seen = new Set<string>();
  return names.find((name) => seen.size === seen.add(name).size);
}

/** Describes a contradiction between keys. Each source needs levels 0, 1, … in order: with a missing or repeated level a restore
 *  would pass off a part as the whole. */
function contradiction({ run, sources, container, image, archives }: Checked): string | undefined {
  if (!isRunName(run)) return `the name of the run, ${run}, is no time`;
  const double = twice(sources.map(({ name }) => name)) ?? twice(container.volume.map(({ name }) => name));
  if (double !== undefined) return `${double} occurs twice`;
  const levels = new Map([...sources.map(({ name }) => name), ...(image ? [imageSource] : [])].map((name) => [name, 0]));
  for (const { source, level } of archives) {
    const next = levels.get(source);
    if (next === undefined) return `an archive belongs to ${source}, which is no source of the run`;
    if (level !== next || (source === imageSource && level > 0)) return `level ${level} of ${source} comes out of order`;
    levels.set(source, next + 1);
  }
  const misplaced = archives.find(({ source, blocks }) => blocks && sources.find(({ name }) => name === source)?.kind !== 'folder');
  if (misplaced) return `${misplaced.source} is no folder and has blocks of big files`;
  const astray = archives.flatMap(({ flags = [] }) => flags).find(({ path }) => !isFlaggedPath(path));
  if (astray) return `a path with flags, ${astray.path}, leads out of its source`;
  const [bare] = [...levels].find(([, next]) => next === 0) ?? [];
  return bare === undefined ? undefined : `${bare} has no archive`;
}

function checkKeys(value: unknown, where: string): Written {
  try {
    return parseOwn('manifest', value);
  } catch (error) {
    if (!(error instanceof ValidationError)) throw error;
    throw notOfFormat(where, error.message);
  }
}

function notOfFormat(where: string, wrong: string): PluginError {
  return new PluginError('damaged', `${where} does not match the format: ${wrong.slice(0, mostWords)}; restore from another run`);
}

const notRead = (where: string, why: string): PluginError =>
  new PluginError('damaged', `${where} ${why}, which this version does not read; update the appliance`);

/** A file without a right hash. A later format may keep its hash elsewhere, so its first key tells it from a damaged file. */
function notWhole(where: string, bytes: Buffer): PluginError {
  const format = Number(/^\{"format":(\d{1,9})[,}]/.exec(bytes.toString('latin1', 0, 32))?.[1] ?? 0);
  if (format > newestFormat) return notRead(where, `is of format ${format}`);
  return new PluginError('damaged', `${where} is damaged: its hash is wrong; restore from another run`);
}

/** Refuses what a later version wrote and this one would restore in part. It goes before the schema, which may have other rules by
 *  then. @throws PluginError damaged */
function refuseLater(value: unknown, format: number, where: string): void {
  if (!isFields(value) || value.format !== format) throw notRead(where, 'is no manifest of format 1 or 2');
  const { must_know: names = [] } = value;
  const isKnown = Array.isArray(names) && names.every((name) => name === mustKnow.blocks);
  if (!isKnown) throw notRead(where, `has ${JSON.stringify(names).slice(0, mostWords)}`);
}

/** @throws PluginError damaged: cut, altered, of an unknown format or against its rules */
export function parseManifest(bytes: Buffer, where: string): Manifest {
  const file = openFile(bytes);
  if (file === undefined) throw notWhole(where, bytes);
  const value = parseBoundedJson(file.json, where);
  refuseLater(value, file.format, where);
  const { sha256: _, ...written }: Checked & { readonly sha256?: string } = checkKeys(value, where);
  const isAstray = file.format === 2 && written.seal !== undefined && file.sealed === undefined;
  const wrong = isAstray ? 'its seal is not the last key but one' : contradiction(written);
  if (wrong !== undefined || !isPlaced(written)) throw notOfFormat(where, wrong ?? 'a path leads out of the record');
  if (file.sealed !== undefined) sealedHashes.set(written, file.sealed);
  return written;
}
