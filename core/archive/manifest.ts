import { createHash } from 'node:crypto';
import { type Description, PluginError, type Source } from '../contract/index.js';
import type { Compression } from './layout.js';
import type { Seal } from './seal.js';

/** A stored file: `sha256` is of the bytes as they lie on the target, so that sha256sum checks it. */
export interface StoredFile {
  readonly path: string; // relative to the record
  readonly stored_bytes: number;
  readonly sha256: string;
  /** Some targets keep a large file as several in this folder of the record: joined in the order of their names they are it. */
  readonly pieces?: { readonly folder: string; readonly count: number };
}

/** One tar level. Levels of a source are extracted in the order of `archives`. */
export interface ArchiveEntry extends StoredFile {
  readonly source: string; // '@image' is the engine's image
  readonly level: number;
  readonly compression: Compression;
  readonly bytes: number; // before compression
  readonly entries: number;
  /** Some file has names that are not in this level: links that lead out of the source, or to what is excluded. */
  readonly outside_links?: true;
  /** GNU tar's snapshot of this level, zstd; only where later runs build on it. */
  readonly snapshot?: StoredFile;
}

/** `excludes`: what levels on this base must leave out, too. */
export type StoredSource = Pick<Source, 'name' | 'origin' | 'kind'> & { readonly excludes?: readonly string[] };

export interface Manifest {
  readonly format: 1;
  readonly run: string;
  readonly job: { readonly id: number; readonly name: string };
  readonly container: Description;
  readonly sources: readonly StoredSource[];
  readonly image?: { readonly digest: string };
  readonly features: readonly string[];
  readonly started: string; // RFC 3339
  readonly ended: string;
  readonly pause_ms: number;
  readonly result: 0;
  readonly left_out: readonly { readonly path: string; readonly reason: string }[];
  readonly archives: readonly ArchiveEntry[];
  readonly seal?: Seal;
}

export const imageSource = '@image';

/** The file: the manifest's JSON on the first line, its SHA-256 in hex on the second. */
export function manifestText(manifest: Manifest): string {
  const body = JSON.stringify(manifest);
  return `${body}\n${createHash('sha256').update(body).digest('hex')}\n`;
}

const object = (value: unknown): Record<string, unknown> | undefined =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? Object.fromEntries(Object.entries(value)) : undefined;

const safePath = (path: unknown): boolean =>
  typeof path === 'string' && path !== '' && path.split('/').every((part) => part !== '' && part !== '.' && part !== '..');

function isStored(value: unknown): boolean {
  const file = object(value);
  if (file === undefined || !safePath(file.path) || !Number.isInteger(file.stored_bytes)) return false;
  const pieces = object(file.pieces);
  const piecesFit = file.pieces === undefined || (safePath(pieces?.folder) && Number.isInteger(pieces?.count));
  return piecesFit && /^[0-9a-f]{64}$/.test(String(file.sha256));
}

function isArchive(value: unknown): boolean {
  const archive = object(value);
  return (
    archive !== undefined &&
    isStored(archive) &&
    typeof archive.source === 'string' &&
    Number.isInteger(archive.level) &&
    (archive.compression === 'none' || archive.compression === 'zstd') &&
    (archive.snapshot === undefined || isStored(archive.snapshot))
  );
}

function isManifest(value: unknown): value is Manifest {
  const manifest = object(value);
  const container = object(manifest?.container);
  return (
    manifest?.format === 1 &&
    typeof manifest.run === 'string' &&
    object(manifest.job) !== undefined &&
    typeof container?.name === 'string' &&
    typeof object(container.native)?.text === 'string' &&
    Array.isArray(container.volume) &&
    Array.isArray(manifest.sources) &&
    manifest.sources.every((source) => /^[a-zA-Z0-9._-]{1,128}$/.test(String(object(source)?.name))) &&
    Array.isArray(manifest.archives) &&
    manifest.archives.every(isArchive)
  );
}

function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** @throws PluginError damaged: cut, altered, or of an unknown format */
export function parsedManifest(text: string, where: string): Manifest {
  const [body = '', hash] = text.split('\n');
  if (createHash('sha256').update(body).digest('hex') !== hash) {
    throw new PluginError('damaged', `${where} is damaged: its own hash does not hold; restore from another run`);
  }
  const value = parsedJson(body);
  if (!isManifest(value)) throw new PluginError('damaged', `${where} is not a manifest of format 1; update the appliance`);
  return value;
}
