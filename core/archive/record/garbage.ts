/** Collects files of a record that no run needs: leftovers of aborted, failed and deleted runs. */
import type { Entry, Target } from '../../contract/index.js';
import { inLanes } from '../../primitives/lanes.js';
import { isRunFile, manifestName } from './layout.js';
import { listRecord, type RecordListing } from './record.js';
import { pathsNeeded, type RecordRuns } from './record-runs.js';
import type { RunSummary } from './run-summary.js';

/** Most paths to remove at once; the next run removes the rest. */
const mostGone = 10_000;
/** Ms by the target's clock; some servers report whole seconds. A folder written so recently may be written again in the same
 *  moment. */
const lately = 2000;

export interface Collected {
  /** Removed paths. */
  readonly gone: readonly string[];
  /** mtime of each complete run's folder that holds its files and nothing else. */
  readonly seen: ReadonlyMap<string, number>;
}

interface Looked {
  readonly run: string;
  /** The run's folder as a whole when all of it is garbage; else its garbage files. */
  readonly garbage: readonly string[];
  readonly isUnknown: boolean;
  readonly isWhole: boolean;
}

interface Sought {
  readonly needed: ReadonlySet<string>;
  /** First parts of the needed paths. */
  readonly used: ReadonlySet<string>;
  readonly known: RunSummary | undefined;
}

/** Removes what no run of the record needs. Touches only names of this format. Removes nothing if some run is unknown or damaged,
 *  since its needs are unknown. Skips folders that have not changed since they were last seen whole.
 *  @param just a listing made just now; nobody else has written to the record since */
export async function collectGarbage(target: Target, record: string, runs: RecordRuns, just?: RecordListing): Promise<Collected> {
  const needed = pathsNeeded(runs);
  if (needed === undefined) return { gone: [], seen: new Map() };
  const used = new Set([...needed].map((path) => path.split('/')[0] ?? ''));
  const known = new Map(runs.complete.map((one) => [one.run, one]));
  const listing = just ?? (await listRecord(target, record));
  const open = [...listing.folders].flatMap(([run, time]) => (known.has(run) && known.get(run)?.seen === time ? [] : [run]));
  const looked = await inLanes(open, Math.max(1, target.supports.connections), (run) =>
    lookInto(target, record, run, { needed, used, known: known.get(run) }),
  );
  const isRefused = runs.damaged.length > 0 || looked.some(({ isUnknown }) => isUnknown);
  const garbage = [...listing.files.filter((name) => !needed.has(name)), ...looked.flatMap((one) => one.garbage)];
  const gone = isRefused ? [] : garbage.slice(0, mostGone);
  for (const path of gone) await target.remove(`${record}/${path}`);
  return { gone, seen: seenIn(looked, listing) };
}

function seenIn(looked: readonly Looked[], { folders, latest }: RecordListing): Map<string, number> {
  return new Map(
    looked.flatMap(({ run, garbage, isWhole }) => {
      const time = folders.get(run);
      return isWhole && garbage.length === 0 && time !== undefined && time <= latest - lately ? [[run, time] as const] : [];
    }),
  );
}

/** Lists unfinished uploads, too: a record has one writer, which holds its lock. */
async function* entriesOf(target: Target, folder: string): AsyncGenerator<Entry> {
  yield* target.list(folder, { unfinished: true });
}

async function lookInto(target: Target, record: string, run: string, { needed, used, known }: Sought): Promise<Looked> {
  const garbage: string[] = [];
  let isAllGarbage = !used.has(run);
  let isUnknown = false;
  let isWhole = false;
  for await (const { name, folder, size, unfinished } of entriesOf(target, `${record}/${run}`)) {
    const path = `${run}/${name}`;
    if (name === manifestName && !folder) isWhole = size === known?.manifest.bytes;
    if (name === manifestName && !needed.has(path)) isUnknown = true;
    const isGarbage = unfinished || (!folder && isRunFile(name) && !needed.has(path));
    isAllGarbage &&= isGarbage;
    if (isGarbage && garbage.length < mostGone) garbage.push(path);
  }
  return { run, garbage: isAllGarbage ? [run] : garbage, isUnknown, isWhole };
}

/** The runs with the folder times of `seen`. */
export function withSeen(runs: RecordRuns, seen: Collected['seen']): RecordRuns {
  const complete = runs.complete.map((one) => {
    const time = seen.get(one.run);
    return time === undefined ? one : { ...one, seen: time };
  });
  return { ...runs, complete };
}
