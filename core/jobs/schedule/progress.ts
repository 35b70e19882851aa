/** Progress of running jobs, in memory only: -1 means not known, and the end. It falls only when a part of a run starts over. */
import type { JobKind, JobState, ProgressEvent } from '../job.js';
import type { EventBus } from './events.js';
import { goingOn } from './retries.js';

type Retry = NonNullable<JobState['retry']>;

export interface ProgressBoard {
  begin(kind: JobKind, id: number): void;
  set(kind: JobKind, id: number, progress: number): void;
  /** A part of the run starts over, so that the next value may be lower. */
  startOver(kind: JobKind, id: number, retry: Retry): void;
  /** The run is about to pause its container for so long, ms. */
  expectPause(kind: JobKind, id: number, ms: number): void;
  end(kind: JobKind, id: number): void;
  all(): readonly ProgressEvent[];
  of(kind: JobKind, id: number): number | undefined;
  retryOf(kind: JobKind, id: number): Retry | undefined;
  expectedPauseOf(kind: JobKind, id: number): number | undefined;
}

interface Running {
  readonly event: ProgressEvent;
  /** It has a time until progress comes again. */
  readonly retry?: Retry;
  readonly pauseMs?: number;
}

export function createProgressBoard({ publish }: Pick<EventBus, 'publish'>): ProgressBoard {
  const running = new Map<string, Running>();
  const key = (kind: JobKind, id: number) => `${kind}-${id}`;
  const tell = (progress: ProgressEvent) => publish({ type: 'progress', progress });
  return {
    begin: (type, id) => void running.set(key(type, id), { event: { id, type, progress: -1 } }),
    set: (type, id, value) => {
      const progress = Math.min(99, Math.floor(value));
      const before = running.get(key(type, id));
      if (!before || (progress <= before.event.progress && before.retry?.at === undefined)) return;
      const event = { id, type, progress };
      running.set(key(type, id), { ...before, event, ...(before.retry && { retry: goingOn(before.retry) }) });
      if (progress !== before.event.progress) tell(event);
    },
    startOver: (type, id, retry) => {
      const before = running.get(key(type, id));
      if (before) running.set(key(type, id), { ...before, retry });
    },
    expectPause: (type, id, pauseMs) => {
      const before = running.get(key(type, id));
      if (before) running.set(key(type, id), { ...before, pauseMs });
    },
    end: (type, id) => {
      if (running.delete(key(type, id))) tell({ id, type, progress: -1 });
    },
    all: () => [...running.values()].map(({ event }) => event),
    of: (type, id) => running.get(key(type, id))?.event.progress,
    retryOf: (type, id) => running.get(key(type, id))?.retry,
    expectedPauseOf: (type, id) => running.get(key(type, id))?.pauseMs,
  };
}
