/** The service: takes the configuration, starts the API. The only file with side effects of its own. */
import { randomBytes } from 'node:crypto';
import { chmod, mkdir, readFile, readlink, rm, stat, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createApi } from './api/index.js';
import { viewContainer } from './appliance/container-view.js';
import { type Engines, openEngines } from './appliance/engines.js';
import { listen, type Service, type Tls } from './appliance/listen.js';
import { startRescue } from './appliance/rescue.js';
import { sshSwitch } from './appliance/ssh-access.js';
import { tlsContext } from './appliance/tls.js';
import type { Config } from './config.js';
import type { PluginLog } from './contract/index.js';
import type { WorkerEnvironment } from './jobs/job.js';
import { createJobService, type RunningJobService } from './jobs/service.js';
import { createLog } from './log.js';
import { loadPlugins, type Plugins } from './plugins/index.js';
import { durableFile } from './primitives/durable.js';
import { openStore, StateDamaged, type Store } from './store/index.js';
import { createRecordBrowser, type RecordBrowser } from './targets/browse.js';
import { createTargetRegistry, remoteTargets } from './targets/check.js';
import { checkTargetOptions } from './targets/remote.js';
import { markNewShares } from './targets/shares.js';
import { openUpdates, type UpdateService } from './update/index.js';

/** Retries the recovery of an engine that did not answer, and removes expired undos. */
const sweepEvery = 60_000;

// Seen from dist/core/index.js: the built-in plugins, and the package from which plugins import the contract.
const pluginsFolder = fileURLToPath(new URL('../plugins/', import.meta.url));
const packageFolder = fileURLToPath(new URL('../../', import.meta.url));

/** Starts the service. With a damaged state it answers with the reason, and starts once the state is mended.
 *  @throws UsageError for a certificate that can't be used
 *  @throws ServiceError when the state folder is in use or cannot be written
 *  @throws Error when a share is no folder or the address is taken */
export async function startService(config: Config): Promise<Service> {
  const log = createLog(config.log_level);
  const tls = await openTls(config);
  try {
    return await startWhole(config, log, tls);
  } catch (error) {
    if (!(error instanceof StateDamaged)) throw error;
    const start = (at: string) => startService({ ...config, listen: at });
    return startRescue(error, { at: config.listen, ...(tls && { tls }), log, start });
  }
}

async function startWhole(config: Config, log: PluginLog, tls: Tls | undefined): Promise<Service> {
  const store = await openStore(config.state, { log, compareEvery: config.compare_hours * 3_600_000 });
  await rm(join(config.state, 'work'), { recursive: true, force: true }); // of runs that a crash ended; only under the database lock
  const closing = new AbortController();
  const opened: { close(): Promise<void> }[] = [store];
  try {
    const environment = environmentOf(config);
    await linkPackage(config.state);
    const plugins = await loadPlugins(environment.pluginFolders, config.state);
    for (const { ok, folder, problem } of plugins.reports) if (!ok) log('warn', `plugin in ${folder} is refused: ${problem}`);
    await markNewShares({ store, plugins, shares: config.share, stateFolder: config.state, log });
    const engines = await openEngines(plugins, environment.runtimes, { signal: closing.signal, log });
    opened.push(engines);
    const { signal } = closing;
    const shared = { config, store, environment, engines, log };
    const reader = readerOf({ ...shared, plugins, signal });
    const jobs = await jobService({ ...shared, reader });
    opened.push({ close: () => jobs.close() });
    const updates = await updatesOf({ config, jobs, log, signal: closing.signal });
    if (updates) opened.push(updates);
    const api = apiOf({ ...shared, plugins, reader, jobs, signal, ...(updates && { updates }) });
    const listener = await listen({ at: config.listen, api, ...(tls && { tls }), log });
    opened.push(listener, { close: () => jobs.drain() });
    await makeSetupCode(store, config.state);
    await jobs.resumeLeases(); // first: a frozen container must not wait until a half-done restore is reverted
    await engines.recover();
    const sweep = setInterval(() => void engines.recover(), sweepEvery); // removes undos whose time has passed
    opened.push({ close: async () => clearInterval(sweep) });
    await jobs.start();
    return { address: listener.address, setupCode: () => setupCode(config.state), close: () => closeAll(closing, opened) };
  } catch (error) {
    await closeAll(closing, opened);
    throw error;
  }
}

/** Called first: an unusable certificate must not leave a half-started service. */
async function openTls({ tls_certificate, tls_key }: Config): Promise<Tls | undefined> {
  if (tls_certificate === undefined || tls_key === undefined) return undefined;
  const files = { certificate: tls_certificate, key: tls_key };
  return { files, context: await tlsContext(files) };
}

function environmentOf(config: Config): WorkerEnvironment {
  const { state, share, lxc_path, docker_socket, runtime_options, verify_days, undo_hours, stall_seconds, log_level } = config;
  return {
    stateFolder: state,
    pluginFolders: [join(pluginsFolder, 'targets'), join(pluginsFolder, 'runtimes'), join(state, 'plugins')],
    shares: share,
    runtimes: { ...runtime_options, lxc: { path: lxc_path }, docker: { socket: docker_socket } },
    newBaseRatio: config.new_base_ratio,
    bigFileBytes: Math.round(config.big_file_mib * 2 ** 20),
    verifyMs: verify_days * 86_400_000,
    undoMs: undo_hours * 3_600_000,
    stallMs: stall_seconds * 1000,
    logLevel: log_level,
  };
}

/** Links this package where Node finds it for plugins in the state folder, which import `container-backup/contract`. */
async function linkPackage(state: string): Promise<void> {
  const modules = join(state, 'plugins', 'node_modules');
  await mkdir(modules, { recursive: true });
  const link = join(modules, 'container-backup');
  if ((await readlink(link).catch(() => '')) === packageFolder) return; // on a full disk it could not be made again
  await rm(link, { force: true });
  await symlink(packageFolder, link);
}

interface Parts {
  readonly config: Config;
  readonly store: Store;
  readonly environment: WorkerEnvironment;
  readonly engines: Engines;
  readonly reader: RecordBrowser;
  readonly log: PluginLog;
}

function jobService({ store, environment, engines, reader, log, config }: Parts): Promise<RunningJobService> {
  return createJobService({
    backup: store.backup,
    restore: store.restore,
    leases: store.leases,
    history: store.history,
    retryMs: config.retry_minutes
      .split(',')
      .filter((one) => one !== '')
      .map((minutes) => Number(minutes) * 60_000),
    environment,
    targets: createTargetRegistry(store),
    concurrent: async () => (await store.preferences.get()).backup_concurrent,
    maxPauseSeconds: async () => (await store.preferences.get()).max_pause_seconds,
    runtime: (id) => engines.runtime(id),
    purge: (spec, claimant) => reader.purge(spec, claimant),
    clock: () => Date.now(),
    clockFile: join(config.state, 'clock.json'),
    log,
  });
}

async function updatesOf(parts: Pick<ApiParts, 'config' | 'jobs' | 'log' | 'signal'>): Promise<UpdateService | undefined> {
  const { config, ...rest } = parts;
  if (config.update !== 'rauc') return undefined;
  const folder = config.update_folder ?? join(config.state, 'update');
  return openUpdates({ ...rest, folder, ...(config.rauc_config !== undefined && { raucConfig: config.rauc_config }) });
}

function readerOf({ plugins, environment, store, engines, log, signal }: Omit<ApiParts, 'reader' | 'jobs'>): RecordBrowser {
  const runtime = (id: string) => engines.runtime(id);
  return createRecordBrowser({ plugins, environment, targets: createTargetRegistry(store), log, runtime, signal });
}

interface ApiParts extends Parts {
  readonly plugins: Plugins;
  readonly jobs: RunningJobService;
  readonly updates?: UpdateService;
  readonly signal: AbortSignal;
}

function apiOf(parts: ApiParts) {
  const { config, store, plugins, environment, engines, jobs, reader, updates, log, signal } = parts;
  return createApi({
    store,
    jobs,
    plugins: {
      get reports() {
        return plugins.reports;
      },
      secretOptions: (plugin) => plugins.secretOptions(plugin),
      checkTarget: (plugin, spec) => checkTargetOptions(plugins, plugin, spec),
    },
    listContainers: (type) => engines.containers(type),
    viewContainer: (container) => viewContainer(engines, container, { least: environment.bigFileBytes, signal }),
    localTarget: { shares: config.share, listShare: (share, path) => reader.shareFolders(share, path) },
    remoteTargets: remoteTargets({ store, plugins, stallMs: environment.stallMs, log }),
    restorePlan: (spec, gone) => reader.restorePlan(spec, gone),
    backupRuns: (spec, gone) => reader.runs(spec, gone),
    backupManifest: (spec, run, gone) => reader.manifest(spec, run, gone),
    engineVersions: () => engines.versions(),
    ...(updates && { updates }),
    ...(config.ssh_folder !== undefined && { ssh: sshSwitch({ folder: config.ssh_folder, log }) }),
    setupCodeFile: join(config.state, 'setup-code'),
    log,
    signal,
  });
}

async function closeAll(closing: AbortController, opened: readonly { close(): Promise<void> }[]): Promise<void> {
  closing.abort();
  for (const one of opened.toReversed()) await one.close();
}

async function makeSetupCode(store: Store, state: string): Promise<void> {
  const file = join(state, 'setup-code');
  if (await store.users.any()) return rm(file, { force: true });
  if (await stat(file).catch(() => undefined)) return chmod(file, 0o600);
  await durableFile(file, `${randomBytes(9).toString('base64url')}\n`);
}

async function setupCode(state: string): Promise<string | undefined> {
  return readFile(join(state, 'setup-code'), 'utf8').then(
    (text) => text.trim(),
    () => undefined,
  );
}
