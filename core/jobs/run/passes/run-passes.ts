/** The passes of a run: live, and with the feature `pause` once more while the container is frozen. */
import { type Description, PluginError, type Runtime, type Warning } from '../../../contract/index.js';
import { ServiceError } from '../../../primitives/service-error.js';
import type { BackupSpec } from '../../job.js';
import type { HeldLease } from '../lease.js';
import type { Pause } from './moving.js';
import { dropPending, firstPass, type PassDeps, type PendingArchive, secondPass, syncSources, type Track } from './passes.js';
import { expectPause, warnSkipped } from './pause-estimate.js';

export interface PassesDeps {
  readonly spec: BackupSpec;
  readonly runtime: Runtime;
  readonly description: Description;
  readonly pass: PassDeps;
  lease(): Promise<HeldLease>;
  /** Reports how long the container will be paused, ms. */
  pauseExpected(ms: number): void;
}

export class Passes {
  /** How long the container was paused. */
  pauseMs = 0;
  readonly warnings: Warning[] = [];
  /** Whether the job asks for a pause, and whether there was one. */
  pause: Pause = 'none';
  #mayBeFrozen = false;

  constructor(private readonly deps: PassesDeps) {}

  async go(tracks: readonly Track[]): Promise<void> {
    const { spec, runtime, description, pass } = this.deps;
    const sources = tracks.map(({ source }) => source);
    const running = description.state === 'running';
    const pausing = spec.features.includes('pause');
    const reference = await syncSources(sources, pass.signal);
    const folders = tracks.filter(({ source }) => source.kind === 'folder');
    const files = tracks.filter(({ source }) => source.kind === 'file');
    // What the container changes meanwhile, the pass in the pause brings again.
    await firstPass(pass, pausing ? folders : tracks, { reference, looks: !(pausing && running) });
    if (!pausing) return;
    // If the owner started or thawed it meanwhile, the first pass does not hold one moment.
    const runs = running || (await runtime.describe(spec.container_id)).state === 'running';
    this.pause = !runs || (await this.#mayPause(folders)) ? 'done' : 'skipped';
    if (this.pause === 'skipped') return this.#goOn(folders, files);
    const again = runs ? folders : folders.filter((track) => track.moved);
    await this.#retryPass((moving) => {
      const second = () => secondPass(pass, again, files, { inPause: runs }, moving);
      return runs ? this.#whilePaused(second) : second().then((finish) => finish());
    });
  }

  /** The whole pass starts over, not one archive: everything read in a pause must be of one moment. */
  async #retryPass(work: (moving: PendingArchive[]) => Promise<void>): Promise<void> {
    const { pass } = this.deps;
    await pass.storer.retryFromStart(
      'the pass in the pause',
      async () => {
        const moving: PendingArchive[] = [];
        await work(moving).catch(async (error: unknown) => {
          await dropPending(pass, moving);
          throw error;
        });
      },
      // If the thaw failed, the main thread's lease resumes the container. A retry would find it frozen and assume the user froze it.
      () => !this.#mayBeFrozen,
    );
  }

  /** @throws ServiceError pause_too_long, when the job refuses a pause as long as this one would be */
  async #mayPause(tracks: readonly Track[]): Promise<boolean> {
    const { spec, pass } = this.deps;
    const expected = await pass.storer.retryFromStart('the estimate of the pause', () => expectPause(tracks, pass));
    this.deps.pauseExpected(expected.ms);
    // A clone waits until the pages of its file are written back. Without this it would wait in the pause.
    if (expected.clones)
      await syncSources(
        tracks.map(({ source }) => source),
        pass.signal,
      );
    const most = spec.max_pause_seconds;
    if (most === undefined || expected.ms <= most * 1000) return true;
    const warning = warnSkipped(expected, most, spec.container_id);
    if (spec.long_pause !== 'skip') throw new ServiceError('pause_too_long', `${warning.message}. ${warning.fix}`);
    this.warnings.push(warning);
    return false;
  }

  /** Reads once more what changed, and the single files, without a pause. What moves meanwhile is told. */
  #goOn(folders: readonly Track[], files: readonly Track[]): Promise<void> {
    const { pass } = this.deps;
    return this.#retryPass(async (moving) => {
      const finish = await secondPass(pass, folders, files, { inPause: false }, moving);
      await finish();
    });
  }

  /** Freezes the container, runs `read`, resumes the container, and then runs the function that `read` returned. */
  async #whilePaused(read: () => Promise<() => Promise<void>>): Promise<void> {
    const { spec } = this.deps;
    let finish: () => Promise<void>;
    {
      await using lease = await this.deps.lease();
      const began = performance.now();
      {
        await using _pause = await this.#frozenContainer();
        finish = await read();
        if (lease.isExpired())
          throw new PluginError('failed', `the pause of ${spec.container_id} took longer than its lease`, { retryable: true });
      }
      lease.release(); // only after a good resume; otherwise the main thread resumes it by the lease
      this.pauseMs = Math.round(performance.now() - began);
    }
    await finish();
  }

  async #frozenContainer(): Promise<AsyncDisposable> {
    this.#mayBeFrozen = true;
    const pause = await this.deps.runtime.pause(this.deps.spec.container_id);
    return {
      [Symbol.asyncDispose]: async () => {
        await pause[Symbol.asyncDispose]();
        this.#mayBeFrozen = false;
      },
    };
  }
}
