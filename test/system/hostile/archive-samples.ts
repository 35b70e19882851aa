/** Sample manifests, targets and sources for the suites of the archive format. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import type { Test } from 'tap';
import { type ArchiveEntry, manifestText, type NewManifest, OpenRecord, type RecordRuns, recordPath } from '../../../core/archive/index.js';
import { PluginError, type Source, type Target } from '../../../core/contract/index.js';
import local from '../../../plugins/targets/local/index.js';
import { markShare } from '../../../plugins/targets/local/marker.js';

type Owner = Pick<Test, 'teardown'>;
export const never = new AbortController().signal;

export async function temporary(t: Owner): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'archive-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** A real local target in a folder of its own. */
export async function someTarget(t: Owner): Promise<{ readonly target: Target; readonly root: string }> {
  const root = await temporary(t);
  await markShare(root);
  const target = await local.open({ log: () => undefined, signal: never, stateFolder: root, options: { share: 'test', root } });
  return { target, root };
}

export const hash = (digit: string): string => digit.repeat(64);

export function archive(path: string, more: Partial<ArchiveEntry> = {}): ArchiveEntry {
  const level = { source: 'rootfs', level: 0, compression: 'zstd', bytes: 10_240, entries: 3 } as const;
  return { ...level, path: recordPath(path), stored_bytes: 5, sha256: hash('a'), ...more };
}

export const snapshot = (path: string) => ({ path: recordPath(path), stored_bytes: 5, sha256: hash('b') });

/** A valid manifest. The files that it names need not exist. */
export function manifest(run: string, more: Partial<NewManifest> = {}): NewManifest {
  return {
    format: 2,
    run,
    job: { id: 7, name: 'web' },
    container: {
      arch: 'x86_64',
      autostart: false,
      image: '',
      name: 'web',
      network: [],
      resource: {},
      type: 'lxc',
      volume: [],
      state: 'running',
      native: { format: 'lxc-config', text: 'lxc.uts.name = web\n' },
      left_out: [],
    },
    sources: [{ name: 'rootfs', origin: 'engine', kind: 'folder' }],
    features: ['compress'],
    started: '2026-11-24T11:19:08.000Z',
    ended: '2026-11-24T11:19:09.000Z',
    pause_ms: 12,
    result: 0,
    left_out: [],
    archives: [archive('image.tar.zst', { snapshot: snapshot('image.snar.zst') })],
    ...more,
  };
}

export async function put(target: Target, path: string, text: string | Buffer): Promise<void> {
  await target.put(path, Readable.from([Buffer.from(text)]), { signal: never, replace: true });
}

/** Stores a run's manifest, and every file that it names with 5 bytes. */
export async function putRun(target: Target, record: string, one: NewManifest): Promise<void> {
  for (const { path, snapshot: beside } of one.archives) {
    await put(target, `${record}/${path}`, 'bytes');
    if (beside) await put(target, `${record}/${beside.path}`, 'bytes');
  }
  await put(target, `${record}/${one.run}/manifest.json`, manifestText(one));
}

/** All runs of a record, by their manifests. */
export async function recordRuns(target: Target, record: string, signal: AbortSignal): Promise<RecordRuns> {
  return (await OpenRecord.open(target, record, { signal })).runs();
}

/** Every file below a folder of the target, sorted. */
export async function filesOf(target: Target, folder: string, prefix = ''): Promise<string[]> {
  const found: string[] = [];
  for await (const { name, folder: isFolder } of target.list(folder)) {
    const inner = folder === '' ? name : `${folder}/${name}`;
    if (isFolder) found.push(...(await filesOf(target, inner, `${prefix}${name}/`)));
    else found.push(`${prefix}${name}`);
  }
  return found.sort();
}

export function folderSource(path: string, more: Partial<Source> = {}): Source {
  return { name: 'data', origin: 'new', kind: 'folder', path, excludes: [], ...more };
}

/** The result of the work: 'fine', or the code of its error. */
export async function codeOf(work: Promise<unknown>): Promise<string> {
  const error: unknown = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error === undefined) return 'fine';
  return error instanceof PluginError ? error.code : `not coded: ${error}`;
}
