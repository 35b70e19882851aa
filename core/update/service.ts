/** The state of an update, and its next step. One step at a time. */
import type { Readable } from 'node:stream';
import { anySignal, type PluginLog } from '../contract/index.js';
import { ServiceError } from '../primitives/service-error.js';
import { type BundleFolder, checkBundle } from './bundle.js';
import type { BundleInfo, Rauc, SystemInfo } from './rauc.js';
import { compareVersions } from './version.js';

export type UpdateState = 'idle' | 'checking' | 'installing' | 'installed' | 'failed';

export interface Pending extends BundleInfo {
  /** It is older than the running system: only `force` installs it. */
  readonly downgrade: boolean;
}
export interface UpdateStatus extends SystemInfo {
  /** Of the running system. */
  readonly version: string;
  readonly state: UpdateState;
  readonly progress: number;
  readonly error?: { readonly code: string; readonly message: string };
  readonly pending?: Pending;
}
export interface UpdateDeps {
  readonly rauc: Rauc;
  readonly bundles: BundleFolder;
  /** The version of the running system; '' when unknown. */
  version(): Promise<string>;
  /** An update waits for running jobs and holds the others. */
  readonly jobs: {
    /** Starts no job until the returned function is called. */
    hold(): () => void;
    /** Names of the running jobs, for a message. */
    running(): Promise<readonly string[]>;
  };
  restart(): Promise<void>;
  readonly stallMs: number;
  readonly signal: AbortSignal;
  readonly log: PluginLog;
}

// After this long the machine will not restart any more: jobs may start again.
const restartMs = 5 * 60_000;

export class UpdateService {
  readonly #d: UpdateDeps;
  #state: UpdateState = 'idle';
  #progress = 0;
  #error: UpdateStatus['error'];
  #bundle: BundleInfo | undefined;
  #busy: string | undefined;
  #last: SystemInfo | undefined;
  #work = Promise.resolve();

  constructor(deps: UpdateDeps) {
    this.#d = deps;
  }

  async open(): Promise<void> {
    await this.#d.bundles.open();
  }

  /** Settles when no step is under way. */
  async close(): Promise<void> {
    await this.#work;
  }

  async status(): Promise<UpdateStatus> {
    const system = await this.#systemInfo();
    const version = await this.#version(system);
    const bundle = await this.#pendingBundle();
    return {
      ...{ ...system, version, state: this.#state, progress: this.#progress },
      ...(this.#error && { error: this.#error }),
      ...(bundle && { pending: this.#pending(bundle, version) }),
    };
  }

  receive(body: () => Readable, length: number | undefined, gone: AbortSignal): Promise<Pending> {
    const { bundles, rauc, log, stallMs } = this.#d;
    const signal = anySignal(gone, this.#d.signal);
    return this.#alone('an update is being received', async () => {
      const system = await this.#systemInfo(); // first: an appliance that cannot check a bundle does not ask for it
      await bundles.checkRoom(length);
      this.#forget();
      this.#set('idle');
      await bundles.receive({ body: body(), length, signal, stallMs });
      this.#set('checking');
      const { compatible } = system;
      const progress = (percent: number) => this.#set('checking', percent);
      const bundle = await bundles.keep((file) => checkBundle(file, { rauc, compatible, signal, progress }));
      this.#bundle = bundle;
      log('info', 'an update was received', { version: bundle.version });
      return this.#pending(bundle, await this.#version(system));
    }).finally(() => this.#state === 'checking' && this.#set('idle'));
  }

  discard(): Promise<void> {
    return this.#alone('an update is being removed', async () => {
      const there = await this.#d.bundles.discard();
      this.#forget();
      if (!there) throw this.#notFound();
    });
  }

  /** Settles when the installation has begun; `status` has its progress. @throws ServiceError not_found, downgrade, busy */
  async install(o: { readonly force: boolean; readonly reboot: boolean }): Promise<void> {
    const bundle = await this.#pendingBundle();
    const release = this.#beginStep('an update is being installed');
    const begun = this.#begin(bundle, o.force);
    this.#work = begun.then(
      (releaseJobs) => this.#perform(o.reboot, releaseJobs).finally(release),
      () => release(),
    );
    await begun;
  }

  /** @throws ServiceError busy unless forced, failed */
  restart(o: { readonly force: boolean }): Promise<void> {
    return this.#alone('the machine restarts', async () => {
      const releaseJobs = await this.#holdJobs(o.force);
      await this.#restart(releaseJobs);
    });
  }

  async #begin(bundle: BundleInfo | undefined, force: boolean): Promise<() => void> {
    if (bundle === undefined) throw this.#notFound();
    const system = await this.#systemInfo();
    const running = await this.#version(system);
    if (this.#pending(bundle, running).downgrade && !force) {
      const why = `${bundle.version || 'a bundle without a version'} is older than the running ${running}`;
      throw new ServiceError('downgrade', `${why}; to install it all the same, send "force": true`);
    }
    const releaseJobs = await this.#holdJobs(false);
    this.#last = system; // RAUC gives no status while it installs
    this.#set('checking');
    return releaseJobs;
  }

  async #perform(reboot: boolean, releaseJobs: () => void): Promise<void> {
    const { rauc, bundles, signal, log } = this.#d;
    try {
      const progress = (state: UpdateState) => (percent: number) => this.#set(state, percent);
      const { compatible } = this.#last ?? (await this.#systemInfo());
      // A second check: the bundle may have been on the disk for months.
      await checkBundle(bundles.file, { rauc, compatible, signal, progress: progress('checking') });
      this.#set('installing');
      await rauc.install(bundles.file, progress('installing'), signal);
      log('info', 'an update was installed', { version: this.#bundle?.version });
      await bundles.discard();
      this.#forget();
      this.#set('installed', 100);
      if (reboot) return await this.#restart(releaseJobs);
    } catch (error) {
      await this.#fail(error);
    }
    releaseJobs();
  }

  async #fail(error: unknown): Promise<void> {
    const code = error instanceof ServiceError ? error.code : 'install_failed';
    const message = error instanceof Error ? error.message : String(error);
    this.#d.log('error', `an update failed: ${message}`, { code });
    const worthless = code === 'damaged_bundle' || code === 'untrusted_bundle' || code === 'incompatible_bundle';
    if (worthless && (await this.#d.bundles.discard())) this.#forget();
    this.#set(this.#state === 'installed' ? 'installed' : 'failed', this.#progress);
    this.#error = { code, message };
  }

  /** No job starts before the machine is down. */
  async #restart(releaseJobs: () => void): Promise<void> {
    try {
      this.#d.log('info', 'the machine restarts');
      await this.#d.restart();
    } catch (error) {
      releaseJobs();
      throw new ServiceError(
        'failed',
        `the machine does not restart; restart it by hand: ${error instanceof Error ? error.message : error}`,
      );
    }
    setTimeout(releaseJobs, restartMs).unref();
  }

  /** Holds the jobs until the returned function is called. @throws ServiceError busy */
  async #holdJobs(force: boolean): Promise<() => void> {
    const releaseJobs = this.#d.jobs.hold();
    try {
      const running = force ? [] : await this.#d.jobs.running();
      if (running.length === 0) return releaseJobs;
      throw new ServiceError('busy', `${running.join(', ')} must end first; wait, or stop them`);
    } catch (error) {
      releaseJobs();
      throw error;
    }
  }

  async #systemInfo(): Promise<SystemInfo> {
    const last = this.#last;
    if (last !== undefined && (this.#state === 'checking' || this.#state === 'installing')) return last;
    this.#last = await this.#d.rauc.status(this.#d.signal).catch((error: unknown) => {
      if (last !== undefined && error instanceof ServiceError && error.code === 'busy') return last;
      throw error;
    });
    return this.#last;
  }

  async #version({ slots }: SystemInfo): Promise<string> {
    return (await this.#d.version()) || (slots.find(({ booted }) => booted)?.version ?? '');
  }

  #pending(bundle: BundleInfo, running: string): Pending {
    return { ...bundle, downgrade: running !== '' && compareVersions(bundle.version, running) < 0 };
  }

  /** The received bundle, also one from before a restart of the service. A bundle that cannot be read now is kept: after a start
   *  the clock may be too early for its certificate. */
  async #pendingBundle(): Promise<BundleInfo | undefined> {
    const { bundles, rauc, signal, log } = this.#d;
    if (this.#bundle !== undefined || this.#busy !== undefined || !(await bundles.holds())) return this.#bundle;
    try {
      this.#bundle = (await rauc.info(bundles.file, signal)).info;
    } catch (error) {
      log('warn', `the stored update cannot be used: ${error instanceof Error ? error.message : error}`);
    }
    return this.#bundle;
  }

  #notFound(): ServiceError {
    return new ServiceError('not_found', 'there is no update; send one with PUT /api/v1/update/bundle');
  }

  #forget(): void {
    this.#bundle = undefined;
  }

  #set(state: UpdateState, progress = 0): void {
    this.#state = state;
    this.#progress = progress;
    this.#error = undefined;
  }

  #beginStep(what: string): () => void {
    if (this.#busy !== undefined) throw new ServiceError('busy', `${this.#busy}; wait until that has ended`);
    this.#busy = what;
    return () => {
      this.#busy = undefined;
    };
  }

  async #alone<T>(what: string, action: () => Promise<T>): Promise<T> {
    const release = this.#beginStep(what);
    return action().finally(release);
  }
}
