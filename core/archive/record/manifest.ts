/** The manifest of a run: what schemas/manifest.json says, and what no schema can say. */
import { createHash } from 'node:crypto';
import { PluginError } from '../../contract/index.js';
import { parseOwn, type Shape, ValidationError } from '../../schemas.js';
import { isFlaggedPath } from '../level/flags.js';
import { parseBoundedJson } from './json-text.js';
import { isRecordPath, isRunName, type RecordPath } from './layout.js';

type Written = Shape<'manifest'>;
type WrittenArchive = Written['archives'][number];

/** A stored file: `sha256` is of the bytes as they lie on the target, so that sha256sum checks it. */
export interface StoredFile {
  readonly path: RecordPath;
  readonly stored_bytes: number;
  readonly sha256: string;
  /** Some targets keep a large file as several in this folder of the record: joined in the order of their names they are it. */
  readonly pieces?: { readonly folder: RecordPath; readonly count: number };
}

/** One tar level. Levels of a source are extracted in the order of `archives`; `bytes` is before compression.
 *  `outside_links`: some file has names that are not in this level: links that lead out of the source, or to what is excluded. */
export type ArchiveEntry = Omit<WrittenArchive, keyof StoredFile | 'snapshot'> &
  StoredFile & {
    /** GNU tar's snapshot of this level, zstd; only where later runs build on it. */
    readonly snapshot?: StoredFile;
  };

/** `excludes`: what levels on this base must leave out, too. */
export type StoredSource = Written['sources'][number];

/** Tells an appliance its own manifests from those of anybody else who can write to the target. `mac` is HMAC-SHA-256 in hex,
 *  under the appliance's key, over the manifest's JSON without its seal. */
export interface Seal {
  readonly appliance: string;
  readonly mac: string;
}

export type Manifest = Omit<Written, 'archives'> & { readonly archives: readonly ArchiveEntry[]; readonly seal?: Seal };

export const imageSource = '@image';
/** Of a message; what is wrong may be as long as the manifest. */
const mostWords = 300;

/** The file: the manifest's JSON on the first line, its SHA-256 in hex on the second. */
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

/** Names that come twice would be extracted into each other. */
function twice(names: readonly string[]): string | undefined {
  const seen = new Set<string>();
  return names.find((name) => seen.size === seen.add(name).size);
}

/** What keys say against each other, in words. Each source has levels 0, 1, … in this order: a level that is missing, or comes
 *  twice, would be taken for the whole. */
function contradiction({ run, sources, container, image, archives }: Written): string | undefined {
  if (!isRunName(run)) return `run ${run} is no time`;
  const double = twice(sources.map(({ name }) => name)) ?? twice(container.volume.map(({ name }) => name));
  if (double !== undefined) return `${double} is there twice`;
  const levels = new Map([...sources.map(({ name }) => name), ...(image ? [imageSource] : [])].map((name) => [name, 0]));
  for (const { source, level } of archives) {
    const next = levels.get(source);
    if (next === undefined) return `an archive is of ${source}, which the run does not have`;
    if (level !== next || (source === imageSource && level > 0)) return `level ${level} of ${source} is not its next one`;
    levels.set(source, next + 1);
  }
  const astray = archives.flatMap(({ flags = [] }) => flags).find(({ path }) => !isFlaggedPath(path));
  if (astray) return `flags are of ${astray.path}, which leads out of its source`;
  const [bare] = [...levels].find(([, next]) => next === 0) ?? [];
  return bare === undefined ? undefined : `nothing is stored of ${bare}`;
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
  return new PluginError('damaged', `${where} is not what the format allows: ${wrong.slice(0, mostWords)}; restore from another run`);
}

/** @throws PluginError damaged: cut, altered, of an unknown format, or not what the format allows */
export function parseManifest(bytes: Buffer, where: string): Manifest {
  const end = bytes.indexOf('\n');
  const body = end < 0 ? bytes : bytes.subarray(0, end);
  const [hash] = bytes.toString('latin1', body.length + 1, body.length + 66).split('\n');
  if (createHash('sha256').update(body).digest('hex') !== hash)
    throw new PluginError('damaged', `${where} is damaged: its own hash does not hold; restore from another run`);
  const value = parseBoundedJson(body, where);
  const isKnown = typeof value === 'object' && value !== null && 'format' in value && value.format === 1;
  if (!isKnown) throw new PluginError('damaged', `${where} is not a manifest of format 1; update the appliance`);
  const written = checkKeys(value, where);
  const wrong = contradiction(written);
  if (wrong === undefined && isPlaced(written)) return written;
  throw notOfFormat(where, wrong ?? 'a path leads out of the record');
}
