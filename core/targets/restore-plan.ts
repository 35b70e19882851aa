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

/** `manifest` is what is asked for of the `whole` one, which alone its seal fits. */
export interface RestoredRun extends FoundRun {
  readonly whole: Manifest;
}

/** The run that the restore means, and of it what is asked for. @throws PluginError as findRun, and invalid */
export async function findRestoredRun(target: Target, spec: RestoreSpec, signal: AbortSignal): Promise<RestoredRun> {
  const found = await findRun(target, spec.src.portfolio, signal);
  return { ...found, whole: found.manifest, manifest: choosePart(found.manifest, spec.sources) };
}

/** What restoring the run into the container means. @throws PluginError unsupported (a run of another engine) */
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

/** A volume of the run may be called `constructor`: what a client did not say of it must not be what an object inherits. */
const bare = <T>(map: Readonly<Record<string, T>>): Readonly<Record<string, T>> => Object.assign(Object.create(null), map);

function plainRemap({ name: _, ports, volumes, network, ...rest }: NonNullable<RestoreSpec['remap']>): Remap {
  return {
    ...rest,
    ...(ports && { ports: bare(ports) }),
    ...(volumes && { volumes: bare(volumes) }),
    ...(network && { network: bare(network) }),
  };
}

/** What a person should know of where the container's data lies. */
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
