/** Finds a record and a run on a target by a portfolio name. It reads the target and not the database, so that it finds records of other
 *  appliances. It reads only records that the name can mean, and stops at the first manifest that decides. */
import {
  isRunName,
  type Manifest,
  type RecordedRun,
  readRuns,
  readVerifications,
  recordPrefix,
  runManifest,
  type Verifications,
} from '../archive/index.js';
import { PluginError, type Target, type Warning } from '../contract/index.js';

export interface FoundRun {
  /** The record's folder. */
  readonly record: string;
  readonly manifest: Manifest;
  /** A warning for each newer run that was skipped. */
  readonly warnings: readonly Warning[];
}

interface Wanted {
  readonly record?: string;
  readonly run?: string;
}

/** A message or a warning lists at most so many names. */
const mostNames = 100;

/** `1`, `name`, `container-backup@name`, any of these with `/timestamp`, or a timestamp alone. */
function parsePortfolio(portfolio: string): Wanted {
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

/** The newest whole run of a record, and the newer runs that are not whole. */
interface Newest {
  readonly record: string;
  readonly manifest?: Manifest;
  /** The job's id in the newest manifest that can be used. */
  readonly job?: number;
  /** The newest damaged run; an unfinished one does not count. */
  readonly broken?: { readonly run: string; readonly why: string };
  /** All runs that are newer than the whole one. */
  readonly passedOver: { readonly count: number; readonly names: readonly string[] };
}

/** Why a run is not whole; '' for a folder without a manifest, whose backup may still be running. */
function problemOf(found: RecordedRun, verifications: () => Verifications | undefined): string | undefined {
  if (found.state === 'empty') return '';
  if (found.state === 'damaged') return found.why;
  return failureOf(found.manifest, verifications());
}

/** The problem that the last verification of a run found. */
export const describeFailure = (run: string, problem: string): string => `${run} failed its last verification: ${problem}`;

function failureOf(manifest: Manifest, verifications: Verifications | undefined): string | undefined {
  const [failed] = verifications?.failedOf(manifest) ?? [];
  return failed?.problem === undefined ? undefined : describeFailure(manifest.run, failed.problem);
}

async function newestRun(target: Target, record: string, signal: AbortSignal): Promise<Newest> {
  const names: string[] = [];
  let count = 0;
  let broken: { run: string; why: string } | undefined;
  let job: number | undefined;
  let verifications: Verifications | undefined;
  const ended = (manifest?: Manifest): Newest => ({
    record,
    ...(manifest && { manifest }),
    ...(job !== undefined && { job }),
    ...(broken && { broken }),
    passedOver: { count, names },
  });
  for await (const found of readRuns(target, record, signal)) {
    if (found.state === 'complete') {
      job ??= found.manifest.job.id;
      verifications ??= await readVerifications(target, record, signal);
    }
    const why = problemOf(found, () => verifications);
    if (why === undefined && found.state === 'complete') return ended(found.manifest);
    if (why) broken ??= { run: found.run, why };
    if (count++ < mostNames) names.push(found.run);
  }
  return ended();
}

/** A restore that names no run takes the newest whole one, with a warning for each newer run. @throws PluginError damaged: none is whole */
function takeNewest({ record, manifest, broken, passedOver: { count, names } }: Newest): FoundRun | undefined {
  if (manifest === undefined) {
    if (broken === undefined) return undefined;
    const fix = `no run of ${record} is whole; name ${broken.run} in portfolio, with the sources that can be saved`;
    throw new PluginError('damaged', `${broken.why}; ${fix}`);
  }
  const why = broken
    ? `are broken or have no manifest (${broken.why})`
    : 'have no manifest, so that their backup goes on or they were damaged';
  const passedOver: Warning = {
    code: 'run_damaged',
    message: `${manifest.run} is the newest whole run of ${record}: ${count} newer there ${why}`,
    fix: `let a backup that goes on end; else verify ${record}, and name the run that you want in portfolio`,
    count,
    names,
  };
  return { record, manifest, warnings: count > 0 ? [passedOver] : [] };
}

/** @returns undefined when the record has no run of that name @throws PluginError damaged */
async function runNamed(target: Target, record: string, run: string, signal: AbortSignal): Promise<FoundRun | undefined> {
  const manifest = await runManifest(target, record, run, signal);
  if (manifest === undefined) return undefined;
  const why = failureOf(manifest, await readVerifications(target, record, signal));
  const failed: Warning[] = why
    ? [{ code: 'run_damaged', message: why, fix: 'restore from another run, or only the sources that are whole' }]
    : [];
  return { record, manifest, warnings: failed };
}

/** Turns a `damaged` error into a value, so that one damaged record does not stop the search. */
async function orDamaged<T>(work: Promise<T>): Promise<T | PluginError> {
  return work.catch((error: unknown) => {
    if (error instanceof PluginError && error.code === 'damaged') return error;
    throw error;
  });
}

/** The run of a timestamp. Damage in other records is ignored. */
async function runAnywhere(target: Target, records: readonly string[], run: string, signal: AbortSignal): Promise<FoundRun | undefined> {
  const found: FoundRun[] = [];
  let damaged: PluginError | undefined;
  for (const record of records) {
    const one = await orDamaged(runNamed(target, record, run, signal));
    if (one instanceof PluginError) damaged ??= one;
    else if (one && found.push(one) > 1) throw several(found.map((each) => each.record));
  }
  if (damaged && found.length === 0) throw damaged;
  return found[0];
}

const several = (records: readonly string[]): PluginError =>
  new PluginError('conflict', `several records match; name one as portfolio: ${records.slice(0, mostNames).join(', ')}`);

/** The newest run of the one record that `fits`. Records are read one by one, so that at most two manifests are in memory.
 *  @throws PluginError conflict */
async function onlyNewest(
  target: Target,
  records: readonly string[],
  signal: AbortSignal,
  fits: (newest: Newest) => boolean,
): Promise<FoundRun | undefined> {
  const found: Newest[] = [];
  for (const record of records) {
    const newest = await newestRun(target, record, signal);
    if (fits(newest) && found.push(newest) > 1) throw several(found.map((one) => one.record));
  }
  return found[0] && takeNewest(found[0]);
}

/** The records whose newest usable manifest names the job. */
async function recordsOfJob(target: Target, records: readonly string[], id: string, signal: AbortSignal): Promise<string[]> {
  const found: string[] = [];
  for (const record of records) {
    const { job } = await newestRun(target, record, signal);
    if (String(job) === id) found.push(record);
  }
  return found;
}

/** A portfolio names a record by its name, or by the id of its job. A name wins over an id. */
async function matching(
  target: Target,
  records: readonly string[],
  { record, run }: Wanted,
  signal: AbortSignal,
): Promise<FoundRun | undefined> {
  if (record === undefined) {
    if (run !== undefined) return runAnywhere(target, records, run, signal);
    return onlyNewest(target, records, signal, ({ manifest, broken }) => manifest !== undefined || broken !== undefined);
  }
  const named = records.find((name) => name === record) ?? records.find((name) => name === `${recordPrefix}${record}`);
  if (named !== undefined && run !== undefined) return runNamed(target, named, run, signal);
  if (named !== undefined) return takeNewest(await newestRun(target, named, signal));
  if (run === undefined) return onlyNewest(target, records, signal, ({ job }) => String(job) === record);
  return runAnywhere(target, await recordsOfJob(target, records, record, signal), run, signal);
}

/** @throws PluginError not_found, conflict (several match, naming them), damaged */
export async function findRun(target: Target, portfolio: string | undefined, signal: AbortSignal): Promise<FoundRun> {
  const records = await recordNames(target);
  const found = await matching(target, records, portfolio === undefined ? {} : parsePortfolio(portfolio), signal);
  if (found) return found;
  const known = records.slice(0, mostNames).join(', ') || 'none';
  throw new PluginError('not_found', `no complete run matches ${portfolio ?? 'this path'}; records here: ${known}`);
}
