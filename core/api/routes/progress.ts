/** Long polling: answers what changed since the session's last answer, or waits for a change. */
import { anySignal } from '../../contract/index.js';
import type { JobService, ProgressEvent } from '../../jobs/job.js';
import { longestPoll } from '../query.js';
import { json } from '../replies.js';
import { requireLogin } from '../request.js';
import { listOf, type Route, route, rowsOf } from '../route.js';

const answer = listOf('job-progress');
const rows = rowsOf({
  pollProgress: { summary: 'Wait for a change of progress', access: 'user', query: ['duration'], answer },
});

interface Told {
  /** Running jobs and their progress in the last answer. */
  readonly jobs: Map<string, ProgressEvent>;
  /** Number of the last end that was answered. */
  ends: number;
}

// Limit of remembered sessions, since some never poll again. A forgotten session gets everything anew.
const keptSessions = 1000;
const keyOf = (e: ProgressEvent) => `${e.type}/${e.id}`;

export interface ProgressFeed {
  poll(session: string, seconds: number, gone: AbortSignal): Promise<ProgressEvent[]>;
}

export function progressFeed(jobs: JobService, ended?: AbortSignal): ProgressFeed {
  return new SessionFeed(jobs, ended);
}

class SessionFeed implements ProgressFeed {
  readonly #sessions = new Map<string, Told>();
  // The latest end of each job with its number, since a job may start and end between two polls.
  readonly #ends = new Map<string, { readonly event: ProgressEvent; readonly count: number }>();
  readonly #waiting = new Set<() => void>();
  #count = 0;

  constructor(
    private readonly jobs: JobService,
    private readonly ended: AbortSignal | undefined,
  ) {
    const unsubscribe = jobs.onProgress((event) => {
      if (event.progress === -1) this.#ends.set(keyOf(event), { event, count: ++this.#count });
      // Later, because the service's list of running jobs is not yet up to date.
      setImmediate(() => {
        for (const wake of this.#waiting) wake();
      });
    });
    ended?.addEventListener('abort', unsubscribe, { once: true });
  }

  async poll(session: string, seconds: number, gone: AbortSignal): Promise<ProgressEvent[]> {
    const told = this.#toldTo(session);
    const now = this.#changes(told);
    if (now.length > 0 || this.jobs.progress().length === 0) return now;
    return this.#nextChange(told, anySignal(gone, AbortSignal.timeout(seconds * 1000), ...(this.ended ? [this.ended] : [])));
  }

  /** Resolves at the next change, or with an empty list at the limit. */
  #nextChange(told: Told, limit: AbortSignal): Promise<ProgressEvent[]> {
    return new Promise((resolve) => {
      const finish = (events: ProgressEvent[]) => {
        this.#waiting.delete(wake);
        limit.removeEventListener('abort', stop);
        resolve(events);
      };
      // A client that disconnected got nothing, so its changes stay for the next poll.
      const stop = () => finish([]);
      const wake = () => {
        if (limit.aborted) return;
        const events = this.#changes(told);
        if (events.length > 0) finish(events);
      };
      this.#waiting.add(wake);
      if (limit.aborted) stop();
      else limit.addEventListener('abort', stop, { once: true });
    });
  }

  #toldTo(session: string): Told {
    const told = this.#sessions.get(session) ?? { jobs: new Map<string, ProgressEvent>(), ends: this.#count };
    this.#sessions.delete(session);
    this.#sessions.set(session, told);
    const oldest = this.#sessions.keys().next().value;
    if (this.#sessions.size > keptSessions && oldest !== undefined) this.#sessions.delete(oldest);
    return told;
  }

  #changes(told: Told): ProgressEvent[] {
    const running = new Map(this.jobs.progress().map((e) => [keyOf(e), e]));
    const news = new Map<string, ProgressEvent>();
    for (const [key, e] of running) if (told.jobs.get(key)?.progress !== e.progress) news.set(key, e);
    for (const [key, e] of told.jobs) if (!running.has(key)) news.set(key, { ...e, progress: -1 });
    for (const [key, end] of this.#ends) if (end.count > told.ends && !running.has(key)) news.set(key, end.event);
    told.jobs.clear();
    for (const [key, e] of running) told.jobs.set(key, e);
    told.ends = this.#count;
    return [...news.values()].map(({ id, progress, type }) => ({ id, progress, type }));
  }
}

export function progressRoutes(feed: ProgressFeed): Route[] {
  return [
    route('get', '/backup/progress', rows.pollProgress, async (request) =>
      json(await feed.poll(requireLogin(request).key, request.query.duration ?? longestPoll, request.gone)),
    ),
  ];
}
