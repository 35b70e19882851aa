/** The manifest of a run: schemas/record/manifest.json, and rules that no schema can express. */
import { createHash } from 'node:crypto';
import { PluginError } from '../../contract/index.js';
import { parseOwn, type Shape, ValidationError } from '../../schemas.js';
import { isFlaggedPath } from '../level/flags.js';
import { parseBoundedJson } from './json-text.js';
import { isRecordPath, isRunName, type RecordPath } from './layout.js';

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

/** One tar level. A source's levels are extracted in the order of `archives`; `bytes` is before compression. `outside_links`: some
 *  file has hard links that are not in this level, because they are outside the source or excluded. */
export type ArchiveEntry = Omit<WrittenArchive, keyof StoredFile | 'snapshot'> &
  StoredFile & {
    /** GNU tar's snapshot of this level, zstd; only where later runs build on it. */
    readonly snapshot?: StoredFile;
  };

/** `excludes`: patterns that later levels on this base must exclude, too. */
export type StoredSource = Written['sources'][number];

/** Tells an appliance its own manifests from those of anybody else who can write to the target. `mac`: HMAC-SHA-256 in hex, with
 *  the appliance's key, over the manifest's JSON without its seal. */
export interface Seal {
  readonly appliance: string;
  readonly mac: string;
}

export type Manifest = Omit<Written, 'archives'> & { readonly archives: readonly ArchiveEntry[]; readonly seal?: Seal };

export const imageSource = '@image';
const newestFormat = 1;
/** Most characters of a reason in a message; it may quote the manifest. */
const mostWords = 300;

/** The file's content: the manifest's JSON on the first line, its SHA-256 in hex on the second. */
export function manifestText(manifest: Manifest): string {
  const body = JSON.stringify(manifest);
  return `${body}\n${createHash('sha256').update(body).digest('hex')}\n`;
}

const pathsOf = ({ path, pieces, snapshot }: WrittenArchive): (string | undefined)[] => [
  path,
  pieces?.folder,
  snapshot?.path,
  snapshot?.pieces?.folder,
];
const isPlaced = (written: Written): written is Manifest =>
  written.archives.flatMap(pathsOf).every((path) => path === undefined || isRecordPath(path));

/** The first name that occurs twice: two such sources would be extracted into each other. */
function twice(names: readonly string[]): string | undefined {
  const seen = new Set<string>();
  return names.find((name) => seen.size === seen.add(name).size);
}

/** Describes a contradiction between keys. Each source needs levels 0, 1, … in order: with a missing or repeated level a restore
 *  would pass off a part as the whole. */
function contradiction({ run, sources, container, image, archives }: Written): string | undefined {
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

/** A file without a right hash. A later format may keep its hash elsewhere, so its first key tells it from a damaged file. */
function notWhole(where: string, bytes: Buffer): PluginError {
  const format = Number(/^\{"format":(\d{1,9})[,}]/.exec(bytes.toString('latin1', 0, 32))?.[1] ?? 0);
  if (format > newestFormat)
    return new PluginError('damaged', `${where} is of format ${format}, which this version does not read; update the appliance`);
  return new PluginError('damaged', `${where} is damaged: its hash is wrong; restore from another run`);
}

/** @throws PluginError damaged: cut, altered, of an unknown format or against its rules */
export function parseManifest(bytes: Buffer, where: string): Manifest {
  const end = bytes.indexOf('\n');
  const body = end < 0 ? bytes : bytes.subarray(0, end);
  const [hash] = bytes.toString('latin1', body.length + 1, body.length + 66).split('\n');
  if (createHash('sha256').update(body).digest('hex') !== hash) throw notWhole(where, bytes);
  const value = parseBoundedJson(body, where);
  const isKnown = typeof value === 'object' && value !== null && 'format' in value && value.format === 1;
  if (!isKnown) throw new PluginError('damaged', `${where} is not a manifest of format 1; update the appliance`);
  const written = checkKeys(value, where);
  const wrong = contradiction(written);
  if (wrong === undefined && isPlaced(written)) return written;
  throw notOfFormat(where, wrong ?? 'a path leads out of the record');
}
