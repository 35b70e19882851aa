import type { BackupRow, BackupSpec, JobRows } from '../job.js';
import { dueTime } from './retries.js';

/** Due times in order, so that a tick costs only as much as there are due jobs. */
export class DueTimes {
  readonly #times = new Map<number, number>();
  readonly #order: { readonly time: number; readonly id: number }[] = [];

  /** @param time undefined for a job that is never due */
  set(id: number, time: number | undefined): void {
    const before = this.#times.get(id);
    if (before === time) return;
    if (before !== undefined) this.#order.splice(this.#indexFor(before, id), 1);
    if (time === undefined) this.#times.delete(id);
    else {
      this.#times.set(id, time);
      this.#order.splice(this.#indexFor(time, id), 0, { time, id });
    }
  }

  /** Ids and times of the jobs that are due at `now`, the earliest first. */
  until(now: number): [id: number, time: number][] {
    return this.#order.slice(0, this.#indexFor(now, Number.POSITIVE_INFINITY)).map(({ id, time }) => [id, time]);
  }

  /** The first due time after `now`. */
  after(now: number): number | undefined {
    return this.#order[this.#indexFor(now, Number.POSITIVE_INFINITY)]?.time;
  }

  /** Binary search: the first index that is not before. */
  #indexFor(time: number, id: number): number {
    let [low, high] = [0, this.#order.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      const one = this.#order[middle];
      if (one && (one.time < time || (one.time === time && one.id < id))) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Rows whose due times are kept up to date, once `load` has read them all. */
export interface TimedRows {
  readonly rows: JobRows<BackupSpec>;
  readonly due: DueTimes;
  load(): Promise<void>;
}

export function withDueTimes(kept: JobRows<BackupSpec>): TimedRows {
  const due = new DueTimes();
  const note = ({ id, spec, state }: BackupRow) => due.set(id, spec.disable ? undefined : dueTime(state));
  const rows: JobRows<BackupSpec> = {
    ...kept,
    async create(spec, state) {
      const row = await kept.create(spec, state);
      note(row);
      return row;
    },
    async put(row, when) {
      await kept.put(row, when);
      note(row);
    },
    async delete(id) {
      await kept.delete(id);
      due.set(id, undefined);
    },
  };
  return {
    rows,
    due,
    load: async () => {
      for (const row of await kept.list()) note(row);
    },
  };
}
