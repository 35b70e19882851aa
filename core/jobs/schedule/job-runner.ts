/** Runs the jobs of one kind: changes their rows, and takes each run from the queue to its result. */
import { KeyedMutex } from '../../primitives/mutex.js';
import { ServiceError } from '../../primitives/service-error.js';
import { ending } from '../errands.js';
import type { JobRow, JobState, Jobs, StateCode } from '../job.js';
import { kinds } from '../kinds.js';
import type { RunResult } from '../worker/launcher.js';
import { type ActiveRun, applyEdit, errorOf, interruption, keepLasting, newActiveRun, stopResult } from './active-run.js';
import { endingOf, nextOf, refusePast } from './calendar.js';
import type { Lock } from './locks.js';
import { goingOn, isRetryDue, retryAfter } from './retries.js';
import type { AnySpec, JobRunnerDeps } from './runner-deps.js';
import { stateAfter } from './states.js';

interface Finish {
  readonly duration?: number;
  readonly keepDue?: true;
  /** Why the run began; absent for one that never left the queue. */
  readonly active?: Pick<ActiveRun<unknown>, 'reason' | 'attempt'>;
}

export class JobRunner<Spec extends AnySpec> implements Jobs<Spec> {
  readonly #d: JobRunnerDeps<Spec>;
  readonly #active = new Map<number, ActiveRun<Spec>>();
  /** Jobs that are being deleted together with their records. */
  readonly #leaving = new Set<number>();
  /** One read-and-write of a row at a time. */
  readonly #mutex = new KeyedMutex<number>();
  #closed = false;
  readonly list: Jobs<Spec>['list'] = (range) => this.#d.rows.list(range);
  readonly listNamed: Jobs<Spec>['listNamed'] = (name) => this.#d.rows.listNamed(name);
  readonly listUsing: Jobs<Spec>['listUsing'] = (target) => this.#d.rows.listUsing(target);

  constructor(deps: JobRunnerDeps<Spec>) {
    this.#d = deps;
  }

  get(id: number): Promise<JobRow<Spec> | undefined> {
    return this.#d.rows.get(id);
  }
  isActive(id: number): boolean {
    return this.#active.has(id) || this.#leaving.has(id);
  }

  async create(spec: Spec): Promise<JobRow<Spec>> {
    refusePast(this.#d.at(spec), this.#d.clock.now());
    const row = await this.#d.rows.create(spec, { code: 'init', ...this.#next(spec) });
    this.#publish(row.id, 'init');
    // after the answer, which shows `init`
    setImmediate(() => this.accept(row.id).catch((error: unknown) => this.#d.log('error', `${this.#key(row.id)}: ${error}`)));
    return row;
  }

  /** Accepts a new job: a backup is scheduled, a restore starts unless it is disabled. */
  async accept(id: number): Promise<void> {
    const scheduled = await this.#mutex.run(id, async () => {
      const row = await this.get(id);
      if (row?.state.code !== 'init') return true;
      if (this.#d.at(row.spec) === undefined) return row.spec.disable;
      await this.#put({ ...row, state: { ...row.state, code: stateAfter(row.state.code, 'accept') } }, 'late');
      return true;
    });
    if (scheduled) this.#d.onChange();
    else await this.enqueue(id, 'run', { when: 'late' });
  }

  update(id: number, spec: Spec): Promise<JobRow<Spec>> {
    return this.#mutex.run(id, async () => {
      const { spec: old, state } = await this.#require(id);
      if (this.#leaving.has(id)) throw this.#busy(id);
      if (JSON.stringify(this.#d.at(old)) !== JSON.stringify(this.#d.at(spec))) refusePast(this.#d.at(spec), this.#d.clock.now());
      const { next_run: _, ...rest } = applyEdit(state, old, spec);
      const next = this.#next(spec);
      const code = next.next_run === undefined ? state.code : stateAfter(state.code, 'edit');
      const row = await this.#put({ id, spec, state: { ...rest, ...next, code } });
      this.#d.onChange();
      if (this.#active.has(id)) this.#d.queue.pump(); // a waiting run may need other locks now
      return row;
    });
  }

  /** Changes a job's state by what the state is at that moment. */
  amend(id: number, change: (state: JobState) => JobState): Promise<JobRow<Spec>> {
    return this.#mutex.run(id, async () => {
      const { spec, state } = await this.#require(id);
      return this.#put({ id, spec, state: change(state) }, 'late');
    });
  }

  delete(id: number): Promise<void> {
    return this.leave(id, (_, remove) => remove());
  }

  /** Lets `work` delete the job. Meanwhile the job neither runs nor changes. When `work` fails first, the job stays. */
  async leave(id: number, work: (spec: Spec, remove: () => Promise<void>) => Promise<void>): Promise<void> {
    const { spec } = await this.#mutex.run(id, async () => {
      const row = await this.#require(id);
      if (this.isActive(id)) throw this.#busy(id);
      this.#leaving.add(id);
      return row;
    });
    try {
      await work(spec, async () => {
        await this.#mutex.run(id, () => this.#d.rows.delete(id));
        await this.#d.onDelete(id);
        this.#publish(id, 'deleted');
        if (kinds[this.#d.kind].buildsOnRuns) await this.#d.clock.forget(id);
      });
    } finally {
      this.#leaving.delete(id);
    }
  }

  #busy(id: number): ServiceError {
    const why = this.#leaving.has(id) ? 'is being deleted' : 'waits or runs; stop it first';
    return new ServiceError('busy', `${this.#key(id)} ${why}`);
  }

  run(id: number): Promise<JobRow<Spec>> {
    return this.enqueue(id, 'run');
  }

  /** @throws ServiceError busy while waiting or running */
  enqueue(id: number, event: 'due' | 'run', { missed = false, when }: { missed?: boolean; when?: 'late' } = {}): Promise<JobRow<Spec>> {
    return this.#mutex.run(id, async () => {
      const { spec, state } = await this.#require(id);
      if (this.#closed) throw ending();
      if (this.isActive(id)) throw this.#busy(id);
      const { missed: _missed, retry, ...rest } = state;
      const isRetry = event === 'due' && retry !== undefined && isRetryDue(state, this.#d.clock.now());
      const isMissed = missed && !isRetry;
      // The state says waiting or running, but no run is active: the store failed when that run ended.
      const from = state.code === 'waiting' || state.code === 'running' ? 'scheduled' : state.code;
      const row = await this.#put(
        {
          id,
          spec,
          state: { ...rest, code: stateAfter(from, event), ...(isMissed && { missed }), ...(isRetry && { retry: goingOn(retry) }) },
        },
        when,
      );
      const reason = event === 'run' ? 'asked' : isRetry ? 'retry' : isMissed ? 'missed' : 'due';
      const active = newActiveRun<Spec>({ reason, attempt: isRetry ? retry.attempt : 1 });
      this.#active.set(id, active);
      this.#d.queue.enter({ key: this.#key(id), locks: () => this.#claim(id, active), start: () => this.#perform(id, active) });
      return row;
    });
  }

  /** The locks for the job's present settings. The run uses those settings; a later edit counts for the next run. */
  async #claim(id: number, active: ActiveRun<Spec>): Promise<readonly Lock[]> {
    try {
      const { spec } = await this.#require(id);
      const locks = await this.#d.locks(spec);
      active.claimed = spec;
      return locks;
    } catch (error) {
      active.claimed = error instanceof Error ? error : new Error(String(error)); // the run reports it
      return [];
    }
  }

  async stop(id: number): Promise<JobRow<Spec>> {
    await this.#require(id);
    await this.#mutex.run(id, async () => undefined); // waits for an enqueue that goes on
    const active = this.#active.get(id);
    if (active) await this.#stopRun(id, active, 'user');
    return this.#require(id);
  }

  /** Stops all runs for a shutdown. Waiting jobs keep their state, and the next start queues them again. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#active].map(([id, active]) => this.#stopRun(id, active, 'shutdown')));
  }

  /** After a crash: marks waiting and running jobs as failed, and accepts new ones. Settles when their rows are stored. */
  async recover(): Promise<void> {
    const recovered = (await this.list()).map(async ({ id, state }) => {
      if (state.code === 'init') await this.accept(id);
      if (state.code !== 'waiting' && state.code !== 'running') return;
      // A row of an earlier version does not say why the run began.
      const active = state.code === 'running' ? { active: state.running ?? { reason: 'due', attempt: 1 } } : {};
      await this.#finish(id, { type: 'result', result: -1, error: interruption }, { keepDue: true, ...active });
    });
    await Promise.all(recovered); // together, so that their writes share an fsync
  }

  async #stopRun(id: number, active: ActiveRun<Spec>, why: 'user' | 'shutdown'): Promise<void> {
    active.stop ??= why;
    if (!this.#d.queue.leave(this.#key(id))) active.run?.stop();
    else {
      // A run that never began keeps its due time over a shutdown, and the next start runs it.
      if (why === 'user') await this.#finish(id, { type: 'result', result: -2 });
      this.#release(id, active);
    }
    await active.ended;
  }

  async #perform(id: number, active: ActiveRun<Spec>): Promise<void> {
    const since = performance.now();
    const epoch = this.#d.clock.epoch();
    try {
      await this.#begin(id, active);
      const result = active.stop ? stopResult(active.stop) : await this.#launch(id, active);
      const final = active.stop === 'shutdown' && result.result !== 0 ? stopResult('shutdown') : result;
      // Before the row: a client may run the job again as soon as it reads the result. If the note is lost, the next run makes a new base.
      if (kinds[this.#d.kind].buildsOnRuns && final.result === 0)
        await this.#d.clock.noteBase(id, epoch).catch((error) => this.#d.log('warn', `${error}`));
      await this.#finish(id, final, { duration: Math.round(performance.now() - since), active });
    } catch (error) {
      this.#d.log('error', `${this.#key(id)}: ${error}`);
      await this.#finish(id, { type: 'result', result: -1, error: errorOf(error) }, { active }).catch(() => undefined);
    } finally {
      this.#d.progress.end(this.#d.kind, id);
      this.#release(id, active);
    }
  }

  async #launch(id: number, active: ActiveRun<Spec>): Promise<RunResult> {
    const { kind, progress, bandwidths } = this.#d;
    const { claimed: spec } = active;
    if (spec === undefined || spec instanceof Error) throw spec ?? new Error('it has no locks');
    const task = await this.#d.task(id, spec);
    if (active.stop) return stopResult(active.stop);
    const run = this.#d.launch(task, {
      onProgress: (value) => progress.set(kind, id, value),
      onPauseExpected: (ms) => progress.expectPause(kind, id, ms),
      onRetry: (retry) => progress.startOver(kind, id, retry),
    });
    active.run = run;
    const leave = task.remote && bandwidths.join(task.remote.id, (bytesPerSecond) => run.throttle(bytesPerSecond));
    return run.ended.finally(() => leave?.());
  }

  #begin(id: number, { reason, attempt }: ActiveRun<Spec>): Promise<JobRow<Spec>> {
    return this.#mutex.run(id, async () => {
      const { spec, state } = await this.#require(id);
      const { next_run: _, ...rest } = state;
      await this.#d.clock.note();
      const code = stateAfter(state.code, 'start');
      this.#d.progress.begin(this.#d.kind, id);
      const began = { last_run: this.#d.clock.now(), running: { reason, attempt } };
      return this.#put({ id, spec, state: { ...rest, ...began, code, ...this.#next(spec) } }, 'late');
    });
  }

  /** Stores a result. It reads the row again, because the settings may have changed during the run. A run that never began gets no
   *  history row. `keepDue` keeps a due time in the past, so that it still runs. */
  #finish(id: number, outcome: RunResult, o: Finish = {}): Promise<JobRow<Spec>> {
    const { type: _type, retryable: _retryable, ...kept } = outcome;
    const { attempt = 1 } = o.active ?? {};
    return this.#mutex.run(id, async () => {
      const { spec, state } = await this.#require(id);
      if (o.active) {
        const { reason } = o.active;
        await this.#d.onEnd({ id, spec, began: state.last_run ?? this.#d.clock.now(), reason, attempt }, outcome);
      }
      const { next_run } = state;
      const next = o.keepDue && next_run !== undefined ? { next_run } : this.#next(spec);
      const at = this.#d.at(spec);
      const now = this.#d.clock.now();
      const plan = { attempt, now, nextRun: next.next_run, waits: this.#d.retryMs };
      const retry = at === undefined || spec.disable ? undefined : retryAfter(outcome, plan);
      const code = stateAfter(state.code, retry ? 'end' : endingOf(at, next.next_run, now));
      const more = { ...(o.duration !== undefined && { duration: o.duration }), ...(retry && { retry }) };
      return this.#put({ id, spec, state: { ...keepLasting(state, kept), ...kept, ...next, code, ...more } }, 'late');
    });
  }

  #next(spec: Spec): { next_run?: number } {
    return nextOf(this.#d.at(spec), spec.disable, this.#d.clock.now());
  }

  #release(id: number, active: ActiveRun<Spec>): void {
    this.#active.delete(id);
    active.end();
    this.#d.onChange();
  }

  #publish(id: number, code: StateCode | 'deleted'): void {
    this.#d.events.publish({ type: 'job', kind: this.#d.kind, id, code });
  }

  #key(id: number): string {
    return `${this.#d.kind}-${id}`;
  }

  async #require(id: number): Promise<JobRow<Spec>> {
    const row = await this.get(id);
    if (!row) throw new ServiceError('not_found', `there is no ${this.#d.kind} ${id}`);
    return row;
  }

  async #put(row: JobRow<Spec>, when?: 'late'): Promise<JobRow<Spec>> {
    await this.#d.rows.put(row, when);
    this.#publish(row.id, row.state.code);
    return row;
  }
}
