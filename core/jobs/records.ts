/** Finds a record and a run on a target by what a client calls it: the target is read, not our database. */
import { isRunName, type Manifest, type RecordRuns, recordPrefix, recordRuns } from '../archive/index.js';
import { PluginError, type Target } from '../contract/index.js';

export interface FoundRun {
  /** The record's folder. */
  readonly record: string;
  readonly manifest: Manifest;
}

interface Wanted {
  readonly record?: string;
  readonly run?: string;
}

/** `1`, `name`, `container-backup@name`, any of these with `/timestamp`, or a timestamp alone. */
function wanted(portfolio: string): Wanted {
  const slash = portfolio.lastIndexOf('/');
  const last = portfolio.slice(slash + 1);
  if (isRunName(last)) return slash < 0 ? { run: last } : { run: last, record: portfolio.slice(0, slash) };
  return { record: portfolio };
}

async function recordNames(target: Target): Promise<string[]> {
  const names: string[] = [];
  for await (const { name, folder } of target.list('')) if (folder && name.startsWith(recordPrefix)) names.push(name);
  return names.sort();
}

/** A record by its name, or by the id of the job that made it; a name wins. */
function matching(all: ReadonlyMap<string, RecordRuns>, called: string | undefined): string[] {
  const names = [...all.keys()];
  if (called === undefined) return names;
  const byName = names.filter((name) => name === called || name === `${recordPrefix}${called}`);
  if (byName.length > 0) return byName;
  return names.filter((name) => String(all.get(name)?.complete[0]?.job.id) === called);
}

/** The run of a record that is meant: the named one, or the newest. A newest one that is damaged is never passed over
 *  in silence. @throws PluginError damaged */
function meantRun({ complete, damaged }: RecordRuns, run: string | undefined): Manifest | undefined {
  const found = complete.find((one) => run === undefined || one.run === run);
  const broken = damaged.find((one) => (run === undefined ? one.run > (found?.run ?? '') : one.run === run));
  if (!broken) return found;
  const fix = complete[0] ? `name another run in portfolio, such as ${complete[0].run}` : 'no other run is there';
  throw new PluginError('damaged', `${broken.why}; ${fix}`);
}

/** @throws PluginError not_found, conflict (several match, naming them), damaged */
export async function foundRun(target: Target, portfolio: string | undefined, signal: AbortSignal): Promise<FoundRun> {
  const { record, run } = portfolio === undefined ? {} : wanted(portfolio);
  const all = new Map<string, RecordRuns>();
  for (const name of await recordNames(target)) all.set(name, await recordRuns(target, name, signal));
  const hits = matching(all, record).flatMap((name) => {
    const runs = all.get(name);
    const manifest = runs && meantRun(runs, run);
    return manifest ? [{ record: name, manifest }] : [];
  });
  const [hit] = hits;
  if (hits.length > 1) {
    throw new PluginError('conflict', `several records match; name one as portfolio: ${hits.map((one) => one.record).join(', ')}`);
  }
  if (hit) return hit;
  const known = [...all].filter(([, { complete }]) => complete.length > 0).map(([name]) => name);
  throw new PluginError(
    'not_found',
    `no complete run matches ${portfolio ?? 'this path'}; records with runs here: ${known.join(', ') || 'none'}`,
  );
}
