/** Runs of a container with databases: what each stored, and the copy that a restore of it makes. */
import { join } from 'node:path';
import { childOutput } from '../../../plugins/shared/primitives/child.js';
import { part } from '../../support/api-client.js';
import type { Appliance } from '../../support/appliance.js';
import { list } from '../bed/request-bodies.js';
import { backUp, makeJob, restore } from '../fidelity/bench.js';
import type { AllSaid, Machine } from './machines.js';

interface Archive {
  readonly source: string;
  readonly level: number;
  readonly path: string;
  /** Archive of its big files' blocks, if it has some. */
  readonly blocks: string | undefined;
}

export interface Taken {
  readonly run: string;
  readonly pauseMs: number;
  /** Of the root and the volume. */
  readonly archives: readonly Archive[];
  /** The message of the warning about moving files; empty without one. */
  readonly moving: string;
}

function parseRun(run: string, manifest: unknown): Taken {
  const moving = list(part(manifest, 'warnings')).find((one) => part(one, 'code') === 'moving_files');
  const archives = list(part(manifest, 'archives')).map((one) => {
    const blocks = part(part(one, 'blocks'), 'path');
    return {
      source: String(part(one, 'source')),
      level: Number(part(one, 'level')),
      path: String(part(one, 'path')),
      blocks: blocks === undefined ? undefined : String(blocks),
    };
  });
  return {
    run,
    pauseMs: Number(part(manifest, 'pause_ms')),
    moving: String(part(moving, 'message') ?? ''),
    archives: archives.filter(({ source }) => source !== '@image'),
  };
}

/** A job, and the container that it backs up. */
export interface Bed {
  readonly machine: Machine;
  readonly container: string;
  /** Folder of the job's record on the host. */
  readonly record: string;
  take(): Promise<Taken>;
  /** Excludes a path of each source, so that the next run makes new bases. */
  exclude(path: string): Promise<void>;
  /** Restores a run as a container that starts and recovers, looks at it and removes it. */
  copyOf<Seen>(run: Taken, look: (copy: string) => Promise<Seen>): Promise<Seen>;
}

export async function makeBed(
  a: Appliance,
  machine: Machine,
  o: { readonly container: string; readonly name: string; readonly pause: boolean; readonly retention?: number },
): Promise<Bed> {
  const { container, name, retention = 0 } = o;
  const { type } = machine;
  const job = await makeJob(a.service, { name, container, type, retention, features: o.pause ? ['compress', 'pause'] : ['compress'] });
  return {
    machine,
    container,
    record: join(a.share, 'backups', `container-backup@${name}`),
    async take() {
      const run = await backUp(a.service, job);
      return parseRun(run, await a.service.call('GET', `/backup/${job}/runs/${run}`));
    },
    async exclude(path) {
      const exclude = ['rootfs', machine.volume(container)].map((one) => `${one}:/${path}`);
      await a.service.call('PUT', `/backup/${job}`, { exclude });
    },
    async copyOf({ run }, look) {
      const copy = `copy-of-${name}`;
      a.alsoDestroy(copy);
      await restore(a.service, { portfolio: `${name}/${run}`, container: copy, type });
      try {
        return await look(copy);
      } finally {
        await machine.remove(copy);
      }
    },
  };
}

export const problemsOf = (said: AllSaid): string[] =>
  Object.entries(said).flatMap(([name, { problems }]) => problems.map((one) => `${name}: ${one}`));

/** Databases that have committed less than before, or than so many more. */
export const behind = (said: AllSaid, before: AllSaid, more = 0): string[] =>
  Object.entries(before).flatMap(([name, { count }]) => ((said[name]?.count ?? -1) < count + more ? [name] : []));

const sourcesOf = ({ archives }: Taken): string[] => [...new Set(archives.map(({ source }) => source))];

/** The levels of each source. */
export const levelsOf = (run: Taken): number[][] =>
  sourcesOf(run).map((name) => run.archives.flatMap(({ source, level }) => (source === name ? [level] : [])));

export const basesOf = ({ archives }: Taken): string[] => archives.filter(({ level }) => level === 0).map(({ path }) => path);

/** The files of which the levels after a base have blocks. */
export async function filesByBlocks({ record }: Bed, { archives }: Taken): Promise<string[]> {
  const files: string[] = [];
  for (const { blocks, level } of archives) {
    if (blocks === undefined || level === 0) continue;
    const names = (await childOutput('tar', ['--zstd', '-tf', join(record, blocks)])).split('\n');
    files.push(...names.flatMap((name) => /^data\/(.+)\/\d+$/.exec(name)?.[1] ?? []));
  }
  return [...new Set(files)];
}
