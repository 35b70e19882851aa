/** What a restore is about to do: which run, which part of it, and what the engine is asked to make. */
import type { Manifest } from '../archive/index.js';
import { type Placement, PluginError, type Remap, type RestorePlan, type Runtime, type Target, type Warning } from '../contract/index.js';
import { containerOf, type RestoreSpec } from '../jobs/job.js';
import { type FoundRun, findRun } from './find-run.js';
import { choosePart } from './restored-part.js';

async function exists(runtime: Runtime, container: string): Promise<boolean> {
  for await (const { id } of runtime.list()) if (id === container) return true;
  return false;
}

/** `manifest` is the part that is asked for. The seal covers the `whole` one. */
export interface RestoredRun extends FoundRun {
  readonly whole: Manifest;
}

/** Finds the run that a restore names, and picks the sources that it asks for. @throws PluginError as findRun, and invalid */
export async function findRestoredRun(target: Target, spec: RestoreSpec, signal: AbortSignal): Promise<RestoredRun> {
  const found = await findRun(target, spec.src.portfolio, signal);
  return { ...found, whole: found.manifest, manifest: choosePart(found.manifest, spec.sources) };
}

/** Builds the plan that the engine gets. @throws PluginError unsupported (a run of another engine) */
export async function planRestore(runtime: Runtime, spec: RestoreSpec, manifest: Manifest): Promise<RestorePlan> {
  if (manifest.container.type !== spec.type) {
    throw new PluginError(
      'unsupported',
      `this is a backup of a ${manifest.container.type} container; restore it with type ${manifest.container.type}`,
    );
  }
  const container = containerOf(spec);
  const remap = plainRemap(spec.remap ?? {});
  return {
    container,
    action: (await exists(runtime, container)) ? 'replace' : 'create',
    description: manifest.container,
    sources: manifest.sources,
    ...(manifest.image && { image: manifest.image }),
    ...(Object.keys(remap).length > 0 && { remap }),
  };
}

/** A map without a prototype: a volume may be called `constructor`, and a lookup must not find an inherited value. */
const bare = <T>(map: Readonly<Record<string, T>>): Readonly<Record<string, T>> => Object.assign(Object.create(null), map);

function plainRemap({ name: _, ports, volumes, network, ...rest }: NonNullable<RestoreSpec['remap']>): Remap {
  return {
    ...rest,
    ...(ports && { ports: bare(ports) }),
    ...(volumes && { volumes: bare(volumes) }),
    ...(network && { network: bare(network) }),
  };
}

/** Warnings about where the container's data lies. */
export function placeWarnings({ places, warnings }: Placement): Warning[] {
  const joined = places
    .filter(({ action }) => action === 'join')
    .map(({ source, after, with: others = [] }) => ({
      code: 'volume_joined',
      message: `${source} is not restored: ${others.join(', ')} has ${after} and goes on with it as it is`,
      fix: `To bring it back, stop ${others.join(', ')} and restore the container again`,
      names: others,
    }));
  return [...warnings, ...joined];
}
