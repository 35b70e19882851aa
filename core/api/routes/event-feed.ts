/** Server-sent events of the job service's bus. Keeps the last 1,000 in memory, so that a client that reconnects can resume. */
import { once } from 'node:events';
import { anySignal } from '../../contract/index.js';
import type { JobService, JobsEvent } from '../../jobs/job.js';
import type { ServerEvent } from '../replies.js';
import { showRow } from './history.js';

const most = 1_000;
/** Interval of comments, which show both sides that the connection is alive. */
const beatMs = 15_000;

export interface EventFeed {
  /** Gives the events after the one with id `lastId`, and all later ones. A client that missed some, because it is slow or the
   *  service restarted, gets `reset` and continues from now. Ends when `gone` is aborted or the service ends. */
  follow(lastId: string, gone: AbortSignal): AsyncGenerator<ServerEvent>;
}

export function createEventFeed(jobs: Pick<JobService, 'onEvent'>, ended?: AbortSignal): EventFeed {
  return new Feed(jobs, ended);
}

class Feed implements EventFeed {
  /** Prefix of ids, which tells them from the ids of an earlier start. */
  readonly #start = Date.now().toString(36);
  readonly #kept: ServerEvent[] = [];
  readonly #news = new EventTarget();
  /** Events since the start. */
  #count = 0;

  constructor(
    jobs: Pick<JobService, 'onEvent'>,
    private readonly ended: AbortSignal | undefined,
  ) {
    const unsubscribe = jobs.onEvent((event) => this.#keep(event));
    ended?.addEventListener('abort', unsubscribe, { once: true });
  }

  #keep(event: JobsEvent): void {
    this.#count++;
    this.#kept.push({ id: `${this.#start}-${this.#count}`, name: event.type, data: dataOf(event) });
    if (this.#kept.length > most) this.#kept.shift();
    this.#news.dispatchEvent(new Event('news'));
  }

  /** How many events a client has seen; undefined when events after them were dropped, or for an unknown id. */
  #seenBy(lastId: string): number | undefined {
    const [start, number = ''] = lastId.split('-');
    const seen = Number(number);
    if (start !== this.#start || !/^\d+$/.test(number) || seen > this.#count) return undefined;
    return seen >= this.#count - this.#kept.length ? seen : undefined;
  }

  async *follow(lastId: string, gone: AbortSignal): AsyncGenerator<ServerEvent> {
    const signal = anySignal(gone, ...(this.ended ? [this.ended] : []));
    let seen = lastId === '' ? this.#count : this.#seenBy(lastId);
    yield {}; // a first comment shows the client that the stream is open
    while (!signal.aborted) {
      if (seen === undefined || seen < this.#count - this.#kept.length) {
        seen = this.#count;
        yield { id: `${this.#start}-${seen}`, name: 'reset', data: { type: 'reset' } };
      }
      const next = this.#kept[this.#kept.length - (this.#count - seen)];
      if (next) {
        seen++;
        yield next;
      } else if (!(await this.#hasNews(signal))) yield {};
    }
  }

  /** @returns false when a comment is due, or at the end */
  async #hasNews(signal: AbortSignal): Promise<boolean> {
    const limit = anySignal(signal, AbortSignal.timeout(beatMs));
    return once(this.#news, 'news', { signal: limit }).then(
      () => true,
      () => false,
    );
  }
}

function dataOf(event: JobsEvent): object {
  if (event.type === 'run') return { type: 'run', kind: event.row.kind, id: event.row.job, row: showRow(event.row) };
  if (event.type === 'progress') {
    const { type: kind, ...rest } = event.progress;
    return { type: 'progress', kind, ...rest };
  }
  return event;
}
