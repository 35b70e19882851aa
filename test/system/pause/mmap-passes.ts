/** Reads the mapped file in the volume, during the pause, and in the archives of the passes. */
import { execFile } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { packLevel } from '../../../core/archive/index.js';
import type { Source } from '../../../core/contract/index.js';
import { syncSources } from '../../../core/jobs/run/passes/passes.js';
import type { Appliance } from '../../support/appliance.js';
import { lxc } from '../../support/lxc.js';
import { recordFolder, type Taken } from '../bed/runs.js';
import type { PythonContainer } from './python-container.js';

const run = promisify(execFile);
const name = 'mapped';

/** The file at one moment. */
export interface Seen {
  readonly content: Buffer;
  readonly mtime: bigint; // ns
}

async function seen(folder: string): Promise<Seen> {
  const path = join(folder, name);
  const content = await readFile(path);
  return { content, mtime: (await stat(path, { bigint: true })).mtimeNs };
}

export async function mappedFile(data: string): Promise<Buffer> {
  return (await seen(data)).content;
}

export async function writeMapped(data: string, content: Buffer): Promise<void> {
  await writeFile(join(data, name), content);
}

/** The file during the pause; undefined when the pause was too short to read all of it. */
export async function seenFrozen(container: PythonContainer, going: Promise<unknown>): Promise<Seen | undefined> {
  let over = false;
  const end = () => {
    over = true;
  };
  going.then(end, end);
  while (!over) {
    if ((await container.state()) !== 'FROZEN') continue;
    const found = await seen(container.data);
    if ((await container.state()) === 'FROZEN') return found;
  }
  return undefined;
}

/** The file as the first, live pass of a run stored it. */
export async function firstCopy(appliance: Appliance, taken: Taken): Promise<Seen> {
  const archive = taken.archives.filter(({ source }) => source === 'data').at(-2);
  const path = join(recordFolder(appliance, taken.record), archive?.path ?? '');
  const folder = await mkdtemp(join(appliance.folder, 'first-'));
  try {
    await run('tar', ['-x', '--use-compress-program=zstd', `--file=${path}`, `--directory=${folder}`, `./${name}`]);
    return await seen(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

export interface TwoPasses {
  /** The file while the second pass read. */
  readonly stood: Buffer;
  readonly restored: Buffer;
  /** Whether anything but the sync of these passes changed the file's time. */
  readonly stamped: boolean;
}

/** Makes one level as a run does. */
async function pass(source: Source, folder: string, level: 0 | 1, reference: number): Promise<void> {
  const since = level === 1 ? { since: join(folder, '0.snar') } : {};
  const plan = {
    source,
    compression: 'none' as const,
    snapshot: join(folder, `${level}.snar`),
    reference,
    looks: false,
    ...since,
  };
  const { stream } = await packLevel(plan, new AbortController().signal, () => undefined);
  await pipeline(stream, createWriteStream(join(folder, `${level}.tar`)));
}

async function restored(folder: string): Promise<Buffer> {
  const into = join(folder, 'restored');
  await mkdir(into);
  for (const level of [0, 1])
    await run('tar', ['-x', '--listed-incremental=/dev/null', `--file=${join(folder, `${level}.tar`)}`, `--directory=${into}`]);
  return mappedFile(into);
}

/** Makes a live pass and a frozen one as a run does, with or without the sync before them. */
export async function twoPasses({ folder, lxcPath }: Appliance, container: PythonContainer, synced: boolean): Promise<TwoPasses> {
  const source: Source = { name: 'data', origin: 'new', kind: 'folder', path: container.data, excludes: [] };
  const work = await mkdtemp(join(folder, 'passes-'));
  const reference = synced ? await syncSources([source], new AbortController().signal) : Date.now();
  await pass(source, work, 0, reference);
  await lxc('freeze', lxcPath, container.name);
  try {
    const { content, mtime } = await seen(container.data);
    await pass(source, work, 1, Date.now());
    // the second pass takes changes from a second before the reference on
    return { stood: content, restored: await restored(work), stamped: Number(mtime / 1_000_000n) > reference - 2000 };
  } finally {
    await lxc('unfreeze', lxcPath, container.name);
    await rm(work, { recursive: true });
  }
}
