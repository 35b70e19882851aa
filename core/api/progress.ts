/** Long polling: what changed since this session was last told, or the wait for it. */
import type { JobService, ProgressEvent } from '../jobs/job.js';
import { type Route, signedIn } from './call.js';
import { ApiError } from './errors.js';

interface Told {
  /** Running jobs and the progress last told. */
  readonly jobs: Map<string, ProgressEvent>;
  /** Ends up to this one are told. */
  ends: number;
}

// Sessions that never poll again must not pile up; a forgotten one is told everything anew.
const keptSessions = 1000;
const keyOf = (e: ProgressEvent) => `${e.type}/${e.id}`;

export interface ProgressFeed {
  poll(session: string, seconds: number, gone: AbortSignal): Promise<ProgressEvent[]>;
}

export function progressFeed(jobs: JobService, ended?: AbortSignal): ProgressFeed {
  const sessions = new Map<string, Told>();
  // A job may start and end between two polls: the count of its latest end tells.
  const ends = new Map<string, { readonly event: ProgressEvent; readonly count: number }>();
  const waiting = new Set<() => void>();
  let count = 0;
  const unsubscribe = jobs.onProgress((event) => {
    if (event.progress === -1) ends.set(keyOf(event), { event, count: ++count });
    // Later, when the service's own view of the running jobs is up to date.
    setImmediate(() => {
      for (const wake of waiting) wake();
    });
  });
  ended?.addEventListener('abort', unsubscribe, { once: true });

  function toldTo(session: string): Told {
    const told = sessions.get(session) ?? { jobs: new Map<string, ProgressEvent>(), ends: count };
    sessions.delete(session);
    sessions.set(session, told);
    const oldest = sessions.keys().next().value;
    if (sessions.size > keptSessions && oldest !== undefined) sessions.delete(oldest);
    return told;
  }

  function changes(told: Told): ProgressEvent[] {
    const running = new Map(jobs.progress().map((e) => [keyOf(e), e]));
    const news = new Map<string, ProgressEvent>();
    for (const [key, e] of running) if (told.jobs.get(key)?.progress !== e.progress) news.set(key, e);
    for (const [key, e] of told.jobs) if (!running.has(key)) news.set(key, { ...e, progress: -1 });
    for (const [key, end] of ends) if (end.count > told.ends && !running.has(key)) news.set(key, end.event);
    told.jobs.clear();
    for (const [key, e] of running) told.jobs.set(key, e);
    told.ends = count;
    return [...news.values()].map(({ id, progress, type }) => ({ id, progress, type }));
  }

  return {
    async poll(session, seconds, gone) {
      const told = toldTo(session);
      const now = changes(told);
      if (now.length > 0 || jobs.progress().length === 0) return now;
      const limit = AbortSignal.any([gone, AbortSignal.timeout(seconds * 1000), ...(ended === undefined ? [] : [ended])]);
      return new Promise((resolve) => {
        const finish = (events: ProgressEvent[]) => {
          waiting.delete(wake);
          limit.removeEventListener('abort', stop);
          resolve(events);
        };
        // A client that has gone was told nothing, so nothing may be taken from the session then.
        const stop = () => finish([]);
        const wake = () => {
          if (limit.aborted) return;
          const events = changes(told);
          if (events.length > 0) finish(events);
        };
        waiting.add(wake);
        if (limit.aborted) stop();
        else limit.addEventListener('abort', stop, { once: true });
      });
    },
  };
}

function secondsOf(text: string | null): number {
  if (text === null) return 60;
  const seconds = Number(text);
  if (!Number.isInteger(seconds) || seconds < 1 || seconds > 60) throw new ApiError('bad_request', 'duration must be 1 to 60 seconds');
  return seconds;
}

export function progressRoutes(feed: ProgressFeed): Route[] {
  return [
    {
      method: 'get',
      path: '/backup/progress',
      access: 'user',
      summary: 'Wait for changed progress',
      handle: (call) => feed.poll(signedIn(call).key, secondsOf(call.query.get('duration')), call.gone),
    },
  ];
}
