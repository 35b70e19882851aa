/** Estimates how long a container will be paused, right before it is. */
import { hashMs, leastPauseMs } from '../../../archive/index.js';
import type { Warning } from '../../../contract/index.js';
import type { PassDeps, Track } from './passes.js';

/** Entries that tar looks at in a second. */
const entriesPerSecond = 200_000;

export interface ExpectedPause {
  readonly ms: number;
  /** Bytes of big files that will be read in the pause. */
  readonly bytes: number;
  /** Big files will be cloned in the pause. */
  readonly clones: boolean;
}

/** @throws PluginError */
export async function expectPause(tracks: readonly Track[], { bigFiles, signal }: PassDeps): Promise<ExpectedPause> {
  let bytes = 0;
  let entries = 0;
  let clones = false;
  for (const { source, table, archives } of tracks) {
    const reads = table && (await bigFiles.of(source)?.readsInPause(table, signal));
    bytes += reads?.bytes ?? 0;
    clones ||= reads?.clones ?? false;
    entries += archives[0]?.entries ?? 0;
  }
  return { ms: Math.round(leastPauseMs + hashMs(bytes) + (entries / entriesPerSecond) * 1000), bytes, clones };
}

export function warnSkipped({ ms, bytes }: ExpectedPause, most: number, container: string): Warning {
  const seconds = Math.ceil(ms / 1000);
  const mib = Math.ceil(bytes / 2 ** 20);
  return {
    code: 'pause_too_long',
    message: `a pause of ${container} would take some ${seconds} s, more than the ${most} s of max_pause_seconds: ${mib} MiB of big files have changed`,
    fix: 'Raise max_pause_seconds, or keep the big files on xfs or btrfs, where they are cloned in the pause. With "long_pause": "skip" such a run goes on without a pause',
  };
}
