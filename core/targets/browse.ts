/** Reads records on targets for the API: lists of runs, manifests, folders and restore plans. Only `purge` writes. */
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type ArchiveEntry,
  failuresOf,
  isRunName,
  type Manifest,
  OpenRecord,
  type RunSummary,
  readRuns,
  recordFolder,
  removeRun,
  runManifest,
  type Verifications,
} from '../archive/index.js';
import { anySignal, PluginError, type PluginLog, type RestorePlan, type Runtime, type Target } from '../contract/index.js';
import type { TargetRegistry } from '../jobs/deps.js';
import type { BackupSpec, Claimant, Location, RestoreSpec, WorkerEnvironment } from '../jobs/job.js';
import type { Plugins } from '../plugins/loaded.js';
import type { PolicyTarget } from '../policy/index.js';
import { queued, Semaphore } from '../primitives/semaphore.js';
import { openSealer, requestConsent } from './consent.js';
import { describeFailure } from './find-run.js';
import { type LocationOpening, openLocation } from './open.js';
import { lockRecord } from './record-lock.js';
import { requireOwnRecord } from './record-owner.js';
import { findRestoredRun, placeWarnings, planRestore } from './restore-plan.js';
import { neededArchives, refuseNestedPlaces } from './restored-part.js';

export interface RecordBrowser {
  /** Complete and damaged runs, newest first. `gone` aborts the read, here and in the two methods below. */
  runs(spec: BackupSpec, gone: AbortSignal): Promise<object[]>;
  manifest(spec: BackupSpec, run: string, gone: AbortSignal): Promise<object | undefined>;
  restorePlan(spec: RestoreSpec, gone: AbortSignal): Promise<object>;
  /** Deletes a job's record, without a time limit. @throws PluginError record_in_use, record_owned */
  purge(spec: BackupSpec, claimant: Claimant): Promise<void>;
  /** Folders below a path of a share. @throws PluginError not_found */
  shareFolders(share: string, path: string): Promise<{ readonly name: string; readonly write: boolean }[]>;
}

export interface BrowserDeps {
  readonly plugins: Plugins;
  readonly environment: WorkerEnvironment;
  readonly targets: TargetRegistry;
  readonly log: PluginLog;
  readonly signal: AbortSignal;
  runtime(id: string): Runtime;
}

/** The limit of a read that a client waits for. */
const answerMs = 30_000;

const sizeOf = (archives: readonly ArchiveEntry[]) => archives.reduce((sum, { bytes }) => sum + bytes, 0);
/** A run as lists show it. */
function showRun(summary: RunSummary, verifications: Verifications): object {
  const { run, started, ended, pause_ms, said, bytes, needed_bytes } = summary;
  const { features, image: _image, ...more } = said;
  const [failed] = failuresOf(summary, verifications);
  const problem = failed && { problem: describeFailure(run, failed.problem) };
  return { run, started, ended, pause_ms, features, ...more, ok: failed === undefined, ...problem, bytes, stored_bytes: needed_bytes };
}

/** Complete and damaged runs, newest first. A folder without a manifest is left out. */
async function showRuns({ environment, log }: BrowserDeps, target: Target, record: string, signal: AbortSignal): Promise<object[]> {
  const sealer = await openSealer(environment.stateFolder).catch((error: unknown) => {
    log('warn', `the indexes of records cannot be checked and are not used: ${error}`);
    return undefined;
  });
  const withTarget = await OpenRecord.open(target, record, { signal, ...(sealer && { sealer }) });
  const { complete, damaged } = await withTarget.runs();
  const all = [
    ...complete.map((one) => ({ run: one.run, shown: showRun(one, withTarget.verifications) })),
    ...damaged.map(({ run, why }) => ({ run, shown: { run, ok: false, problem: why } })),
  ];
  return all.sort((a, b) => (a.run < b.run ? 1 : -1)).map(({ shown }) => shown);
}

/** A plan holds a manifest in memory until it is answered, and a list holds all runs of a record. Both may be large, so two run at a time. */
const plans = new Semaphore(2);
const lists = new Semaphore(2);

export function createRecordBrowser(deps: BrowserDeps): RecordBrowser {
  const { plugins, environment, log } = deps;
  const withTarget = async <T>(location: Location, signal: AbortSignal, action: (target: PolicyTarget) => Promise<T>): Promise<T> => {
    const remote = location.profile === undefined ? undefined : await deps.targets.get(location.profile);
    const keepFound: LocationOpening['keepFound'] = (id, what) =>
      void deps.targets.keepFound(id, what).catch((error) => log('warn', `target ${id}: ${error}`));
    await using target = await openLocation(plugins, environment, location, {
      signal,
      log,
      keepFound,
      ...(remote && { remote }),
    });
    return await action(target); // without await, `await using` would close the target before the action ends
  };
  const reading = <T>(location: Location, action: (target: Target, signal: AbortSignal) => Promise<T>, gone?: AbortSignal): Promise<T> => {
    const signal = anySignal(deps.signal, AbortSignal.timeout(answerMs), ...(gone ? [gone] : []));
    return withTarget(location, signal, (target) => action(target, signal));
  };
  return {
    runs: ({ dest, job_name }, gone) =>
      reading(dest, (target, signal) => queued(lists, signal, () => showRuns(deps, target, recordFolder(job_name), signal)), gone),
    manifest: ({ dest, job_name }, run, gone) =>
      reading(dest, (target, signal) => runManifest(target, recordFolder(job_name), run, signal), gone),
    restorePlan: (spec, gone) =>
      reading(spec.src, (target, signal) => queued(plans, signal, () => previewRestore(deps, target, spec, signal)), gone),
    purge: ({ dest, job_name }, claimant) =>
      withTarget(dest, deps.signal, (target) => purgeRecord(target, recordFolder(job_name), claimant, deps)),
    shareFolders: (share, path) =>
      reading({ target: 'local', path: `/${share}/` }, async (target) => {
        if (path !== '' && !(await target.stat(path))?.folder)
          throw new PluginError('not_found', `there is no folder ${path} on share ${share}`);
        const names: string[] = [];
        for await (const { name, folder } of target.list(path)) if (folder) names.push(name);
        const root = environment.shares[share] ?? '';
        return Promise.all(names.map(async (name) => ({ name, write: await mayWrite(join(root, path, name)) })));
      }),
  };
}

/** Deletes manifests before archives, so that no listed run lacks files. The newest manifest goes last: it names the record's owner. */
async function purgeRecord(
  target: PolicyTarget,
  record: string,
  { id, rivals }: Claimant,
  { environment, signal, log }: BrowserDeps,
): Promise<void> {
  const { appliance } = await openSealer(environment.stateFolder);
  await using lock = await lockRecord(target.aside, record, { appliance, job: id, signal, log });
  requireOwnRecord(record, await newestManifest(target, record, signal), { appliance, job: id, rivals, log });
  const runs: string[] = [];
  for await (const { name, folder } of target.list(record)) if (folder && isRunName(name)) runs.push(name);
  for (const run of runs.sort()) await removeRun(target, record, run);
  await lock.removeRecord();
}

/** Reads manifests from the newest until one can be used. */
async function newestManifest(target: Target, record: string, signal: AbortSignal): Promise<Manifest | undefined> {
  for await (const found of readRuns(target, record, signal)) if (found.state === 'complete') return found.manifest;
  return undefined;
}

const mayWrite = (folder: string): Promise<boolean> =>
  access(folder, constants.W_OK).then(
    () => true,
    () => false,
  );

async function previewRestore(deps: BrowserDeps, target: Target, spec: RestoreSpec, signal: AbortSignal): Promise<object> {
  const { stateFolder, shares } = deps.environment;
  const runtime = deps.runtime(spec.type);
  const { record, manifest, whole, warnings } = await findRestoredRun(target, spec, signal);
  const plan = await planRestore(runtime, spec, manifest);
  const preview = await runtime.preview(plan, { shares: Object.values(shares) });
  refuseNestedPlaces(preview, manifest);
  const asked = requestConsent(await openSealer(stateFolder), preview.grants, whole);
  const archives = neededArchives(manifest, plan.action);
  return {
    action: plan.action,
    container: plan.container,
    record,
    run: manifest.run,
    size: sizeOf(archives),
    space: sizeOf(archives),
    conflicts: preview.conflicts,
    places: preview.places,
    warnings: [...warnings, ...placeWarnings(preview)],
    ...asked,
    steps: stepsOf(plan, manifest, { archives: archives.length, record }),
  };
}

/** The steps of a restore in words. */
function stepsOf(plan: RestorePlan, manifest: Manifest, { archives, record }: { archives: number; record: string }): string[] {
  const verb = plan.action === 'create' ? 'make' : 'build beside the old one';
  return [
    `check the ${archives} archives of ${record}/${manifest.run}`,
    ...(manifest.image ? [`load the image ${manifest.container.image || manifest.image.digest} if the engine lacks it`] : []),
    `${verb}: ${manifest.sources.map(({ name }) => name).join(', ')}`,
    plan.action === 'create'
      ? `start ${plan.container} unless it was stopped or a conflict stands in the way`
      : `swap it in by rename; ${plan.container} ends in the state it is in now`,
  ];
}
