/** Extracts the levels of one source into its folder, and checks every byte by its hash. */
import { join } from 'node:path';
import { pipeline, type Readable } from 'node:stream';
import {
  type AppliedFiles,
  type ArchiveEntry,
  applyBlocks,
  checkBlocks,
  checkStored,
  extractLevel,
  Meter,
  openTop,
  type StoredFile,
  zstdStream,
} from '../../archive/index.js';
import type { Source } from '../../contract/index.js';

export interface Extraction {
  readonly source: Pick<Source, 'name' | 'kind'>;
  readonly folder: string;
  /** In order. */
  readonly levels: readonly ArchiveEntry[];
  readonly workFolder: string;
  readonly signal: AbortSignal;
  /** Opens a stored file. */
  open(file: StoredFile): Promise<Readable>;
}

/** @throws PluginError damaged, no_space, failed, aborted */
export async function extractSource(o: Extraction): Promise<void> {
  const { source, folder, levels, open, signal } = o;
  const files: AppliedFiles = new Map();
  for (const level of levels) {
    await extractLevel(level, source.kind, folder, await open(level), signal);
    if (level.blocks) await extractBlocks(o, level, level.blocks, files);
  }
  if (files.size === 0) return;
  await using top = await openTop(folder);
  await checkBlocks(top, files, source.name, signal);
}

async function extractBlocks(o: Extraction, level: ArchiveEntry, file: StoredFile, files: AppliedFiles): Promise<void> {
  const { source, folder, signal } = o;
  await using top = await openTop(folder);
  const tree = { kind: 'folder', path: folder, access: 'write' } as const;
  const workFolder = join(o.workFolder, `${source.name}.stand-ins`);
  const meter = new Meter();
  pipeline(await o.open(file), meter, () => undefined); // an error of the target fails the meter
  const archive = level.compression === 'zstd' ? zstdStream(meter, 'decompress', signal) : meter;
  await applyBlocks({ tree, top, files, workFolder, name: file.path, signal }, archive);
  checkStored(meter, file);
}
