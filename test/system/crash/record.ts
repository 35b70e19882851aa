/** Compares a record on the share with its manifests: every file that they name must be there with its bytes, and no other. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Body, isBody, part } from '../../support/api-client.js';
import type { DemoService } from '../../support/demo-client.js';
import { readManifestFile } from '../../support/manifest-file.js';
import { typed } from '../fidelity/shell-block.js';
import { type Trees, treesOf } from './busy-container.js';

const bodies = (value: unknown): readonly Body[] => (Array.isArray(value) ? value.filter(isBody) : []);

/** Runs as the API lists them, newest first. */
export async function listedRuns(service: DemoService, job: number): Promise<readonly Body[]> {
  return bodies(await service.call('GET', `/backup/${job}/runs`));
}

export const runNames = (runs: readonly Body[]): string[] => runs.map(({ run }) => String(run));

/** Hashes by inode, size and time. The suite checks bases after each kill, and a base changes only when it is stored again. */
const known = new Map<string, string>();

async function knownSum(path: string): Promise<string> {
  const { ino, size, mtimeNs } = await stat(path, { bigint: true });
  const key = `${path} ${ino} ${size} ${mtimeNs}`;
  const sum = known.get(key) ?? (await sha256(path));
  known.set(key, sum);
  return sum;
}

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk);
  return hash.digest('hex');
}

/** Every stored file that a manifest names. */
function filesOf(manifest: unknown): readonly Body[] {
  const archives = bodies(part(manifest, 'archives'));
  return archives.flatMap((archive) => [archive, ...[archive.snapshot, archive.blocks, archive.table].filter(isBody)]);
}

export interface RecordCheck {
  /** One line for each difference. */
  readonly problems: string[];
  /** Files of the record that some listed run needs. */
  readonly needed: ReadonlySet<string>;
}

/** Checks every listed run by the bytes in the record's folder. */
export async function checkRecord(service: DemoService, job: number, record: string): Promise<RecordCheck> {
  const problems: string[] = [];
  const needed = new Set<string>();
  for (const { run, ok, problem } of await listedRuns(service, job)) {
    if (ok !== true) problems.push(`${run} is listed as broken: ${problem}`);
    needed.add(`${run}/manifest.json`);
    for (const { path, sha256: promised } of filesOf(await service.call('GET', `/backup/${job}/runs/${run}`))) {
      const name = String(path);
      needed.add(name);
      const sum = await knownSum(join(record, name)).catch((error: unknown) => String(error));
      if (sum !== promised) problems.push(`${run}: ${name} should be ${promised}, is ${sum}`);
    }
  }
  return { problems, needed };
}

/** Relative paths of a folder's files, hidden ones included. */
export async function filesIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();
}

/** Files of the record that no run needs. */
export async function rubbish(record: string, { needed }: RecordCheck): Promise<string[]> {
  return (await filesIn(record)).filter((file) => !['backup-metadata', 'verified.json'].includes(file) && !needed.has(file));
}

/** Restores a run with programs of the system alone, as docs/archive-format.md describes. */
export async function restoredByHand(record: string, run: string, into: string): Promise<Trees> {
  const manifest = await readManifestFile(join(record, run, 'manifest.json'));
  const { text } = await typed(record, run, into);
  if (text.includes('FAILED')) throw new Error(text);
  const volumes = bodies(part(manifest.container, 'volume'));
  const folderOf = (mountpoint: string) => join(into, String(volumes.find((volume) => volume.mountpoint === mountpoint)?.name));
  return treesOf({ root: join(into, 'rootfs/app'), volume: folderOf('/data'), host: folderOf('/srv') });
}
