/** Reads a record on the server's own disk, without any code of the project. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isBody, part } from '../../support/api-client.js';
import { isWholeFile, manifestIn, readManifestFile } from '../../support/manifest-file.js';

/** The files of an archive: one file, or its pieces in the order of their names. */
async function filesOf(record: string, stored: unknown): Promise<string[]> {
  const folder = part(part(stored, 'pieces'), 'folder');
  if (typeof folder !== 'string') return [join(record, String(part(stored, 'path')))];
  const names = (await readdir(join(record, folder))).filter((name) => !name.startsWith('.'));
  return names.sort().map((name) => join(record, folder, name));
}

async function sha256Of(files: readonly string[]): Promise<string> {
  const hash = createHash('sha256');
  for (const file of files) for await (const chunk of createReadStream(file)) hash.update(chunk);
  return hash.digest('hex');
}

/** One line for each problem of a run: a wrong hash of its manifest or of an archive. */
export async function faultsOf(root: string, record: string, run: string): Promise<string[]> {
  const folder = join(root, record);
  const text = await readFile(join(folder, run, 'manifest.json'), 'utf8');
  if (!isWholeFile(text)) return [`${run}: the manifest's hash does not hold`];
  const { archives } = manifestIn(text);
  const faults: string[] = [];
  for (const archive of Array.isArray(archives) ? archives.filter(isBody) : []) {
    const files = [archive, ...[archive.snapshot, archive.blocks, archive.table].filter(isBody)];
    for (const file of files) {
      const found = await sha256Of(await filesOf(folder, file)).catch((error: unknown) => String(error));
      if (found !== file.sha256) faults.push(`${run}: ${file.path}: ${found} instead of ${file.sha256}`);
    }
  }
  return faults;
}

/** Leftovers of interrupted puts: uploads, and pieces without a marker. */
export async function leftoversOf(root: string): Promise<string[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  const paths = entries.map((entry) => join(entry.parentPath, entry.name));
  const parts = paths.filter((path) => /\.part$|\/\.[^/]+\.[A-Za-z0-9]{6}$/.test(path));
  const whole = (folder: string) => paths.some((path) => path.startsWith(`${folder}/.whole-`));
  return [...parts, ...paths.filter((path) => path.endsWith('.pieces') && !whole(path))];
}

/** Files of the record that no manifest needs. */
export async function strayFiles(root: string, record: string): Promise<string[]> {
  const folder = join(root, record);
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1));
  const needed = new Set(['backup-metadata', 'verified.json']);
  for (const manifest of files.filter((file) => file.endsWith('/manifest.json'))) {
    needed.add(manifest);
    const { archives } = await readManifestFile(join(folder, manifest));
    for (const archive of Array.isArray(archives) ? archives.filter(isBody) : [])
      for (const file of [archive, archive.snapshot, archive.blocks, archive.table]) needed.add(String(part(file, 'path')));
  }
  return files.filter((file) => !needed.has(file.replace(/\.pieces\/.*$/, '')));
}
