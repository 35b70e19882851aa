/** Where an update stands, and what may be done next: one step at a time. */
import type { Readable } from 'node:stream';
import { anySignal, type PluginLog } from '../contract/index.js';
import { type BundleFolder, checkBundle } from './bundle.js';
import { UpdateError } from './errors.js';
import type { BundleInfo, Rauc, SystemInfo } from './rauc.js';
import { compareVersions } from './version.js';

export type UpdateState = 'idle' | 'checking' | 'installing' | 'installed' | 'failed';

export interface Pending extends BundleInfo {
  /** Older than what runs: installed by force only. */
  readonly downgrade: boolean;
}
export interface UpdateStatus extends SystemInfo {
  /** Of what runs. */
  readonly version: string;
  readonly state: UpdateState;
  readonly progress: number;
  readonly error?: { readonly code: string; readonly message: string };
  readonly pending?: Pending;
}
export interface StateDeps {
  readonly rauc: Rauc;
  readonly bundles: BundleFolder;
  /** The version of the system that runs; '' when it is not told. */
  version(): Promise<string>;
  /** The jobs, as an update has to look after them. */
  readonly jobs: {
    /** No job starts until the returned function is called. */
    hold(): () => void;
    /** What runs, in words. */
    running(): Promise<readonly string[]>;
  };
  restart(): Promise<void>;
  readonly stallMs: number;
  readonly signal: AbortSignal;
  readonly log: PluginLog;
}

// A machine that was told to restart and is still there after this long will not.
const restartMs = 5 * 60_000;

export class UpdateDesk {
  readonly #d: StateDeps;
  #state: UpdateState = 'idle';
  #progress = 0;
  #error: UpdateStatus['error'];
  #bundle: BundleInfo | undefined;
  #busy: string | undefined;
  #last: SystemInfo | undefined;
  #work = Promise.resolve();

  constructor(deps: StateDeps) {
    this.#d = deps;
  }

  async open(): Promise<void> {
    await this.#d.bundles.open();
  }

  /** Settles when nothing is under way any more. */
  async close(): Promise<void> {
    await this.#work;
  }

  async status(): Promise<UpdateStatus> {
    const system = await this.#system();
    const version = await this.#version(system);
    const bundle = await this.#sent();
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
      const system = await this.#system(); // first: nothing is sent to an appliance that could not check it
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
      if (!there) throw this.#none();
    });
  }

  /** Settles once it has begun; `status` tells how it goes on. @throws UpdateError not_found, downgrade, busy */
  async install(o: { readonly force: boolean; readonly reboot: boolean }): Promise<void> {
    const bundle = await this.#sent();
    const release = this.#take('an update is being installed');
    const begun = this.#begin(bundle, o.force);
    this.#work = begun.then(
      (free) => this.#perform(o.reboot, free).finally(release),
      () => release(),
    );
    await begun;
  }

  /** @throws UpdateError busy unless forced, failed */
  restart(o: { readonly force: boolean }): Promise<void> {
    return this.#alone('the machine restarts', async () => {
      const free = await this.#quiet(o.force);
      await this.#restart(free);
    });
  }

  async #begin(bundle: BundleInfo | undefined, force: boolean): Promise<() => void> {
    if (bundle === undefined) throw this.#none();
    const system = await this.#system();
    const running = await this.#version(system);
    if (this.#pending(bundle, running).downgrade && !force) {
      const why = `${bundle.version || 'a bundle without a version'} is older than ${running}, which runs`;
      throw new UpdateError('downgrade', `${why}; install it with "force": true if that is meant`);
    }
    const free = await this.#quiet(false);
    this.#last = system; // RAUC tells no status while it installs
    this.#set('checking');
    return free;
  }

  async #perform(reboot: boolean, free: () => void): Promise<void> {
    const { rauc, bundles, signal, log } = this.#d;
    try {
      const progress = (state: UpdateState) => (percent: number) => this.#set(state, percent);
      const { compatible } = this.#last ?? (await this.#system());
      // Again, since it may have lain on a disk for months.
      await checkBundle(bundles.file, { rauc, compatible, signal, progress: progress('checking') });
      this.#set('installing');
      await rauc.install(bundles.file, progress('installing'), signal);
      log('info', 'an update was installed', { version: this.#bundle?.version });
      await bundles.discard();
      this.#forget();
      this.#set('installed', 100);
      if (reboot) return await this.#restart(free);
    } catch (error) {
      await this.#failed(error);
    }
    free();
  }

  async #failed(error: unknown): Promise<void> {
    const code = error instanceof UpdateError ? error.code : 'install_failed';
    const message = error instanceof Error ? error.message : String(error);
    this.#d.log('error', `an update failed: ${message}`, { code });
    const worthless = code === 'damaged_bundle' || code === 'untrusted_bundle' || code === 'incompatible_bundle';
    if (worthless && (await this.#d.bundles.discard())) this.#forget();
    this.#set(this.#state === 'installed' ? 'installed' : 'failed', this.#progress);
    this.#error = { code, message };
  }

  /** Jobs stay where they are until the machine is down. */
  async #restart(free: () => void): Promise<void> {
    try {
      this.#d.log('info', 'the machine restarts');
      await this.#d.restart();
    } catch (error) {
      free();
      throw new UpdateError('failed', `the machine does not restart: ${error instanceof Error ? error.message : error}`);
    }
    setTimeout(free, restartMs).unref();
  }

  /** Nothing runs, and nothing will until the returned function is called. @throws UpdateError busy */
  async #quiet(force: boolean): Promise<() => void> {
    const free = this.#d.jobs.hold();
    try {
      const running = force ? [] : await this.#d.jobs.running();
      if (running.length === 0) return free;
      throw new UpdateError('busy', `${running.join(', ')} must end first; wait, or stop it`);
    } catch (error) {
      free();
      throw error;
    }
  }

  async #system(): Promise<SystemInfo> {
    const last = this.#last;
    if (last !== undefined && (this.#state === 'checking' || this.#state === 'installing')) return last;
    this.#last = await this.#d.rauc.status(this.#d.signal).catch((error: unknown) => {
      if (last !== undefined && error instanceof UpdateError && error.code === 'busy') return last;
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

  /** The bundle that was sent, also to an earlier service. One that cannot be read now may be later: after a start the clock
   *  may be too early for its certificate. */
  async #sent(): Promise<BundleInfo | undefined> {
    const { bundles, rauc, signal, log } = this.#d;
    if (this.#bundle !== undefined || this.#busy !== undefined || !(await bundles.holds())) return this.#bundle;
    try {
      this.#bundle = (await rauc.info(bundles.file, signal)).info;
    } catch (error) {
      log('warn', `the update that was kept cannot be used: ${error instanceof Error ? error.message : error}`);
    }
    return this.#bundle;
  }

  #none(): UpdateError {
    return new UpdateError('not_found', 'there is no update; send one with PUT /api/v1/update/bundle');
  }

  #forget(): void {
    this.#bundle = undefined;
  }

  #set(state: UpdateState, progress = 0): void {
    this.#state = state;
    this.#progress = progress;
    this.#error = undefined;
  }

  #take(what: string): () => void {
    if (this.#busy !== undefined) throw new UpdateError('busy', `${this.#busy}; wait until that is over`);
    this.#busy = what;
    return () => {
      this.#busy = undefined;
    };
  }

  async #alone<T>(what: string, action: () => Promise<T>): Promise<T> {
    const release = this.#take(what);
    return action().finally(release);
  }
}
