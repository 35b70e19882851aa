import type { BackupRecord, BackupSpec, JobRecords } from '../job.js';

/** When jobs are due, in order of time: a tick looks at those that are, however many there are. */
export class DueTimes {
  readonly #times = new Map<number, number>();
  readonly #order: { readonly time: number; readonly id: number }[] = [];

  /** undefined: it is not due at any time. */
  set(id: number, time: number | undefined): void {
    const before = this.#times.get(id);
    if (before === time) return;
    if (before !== undefined) this.#order.splice(this.#placeOf(before, id), 1);
    if (time === undefined) this.#times.delete(id);
    else {
      this.#times.set(id, time);
      this.#order.splice(this.#placeOf(time, id), 0, { time, id });
    }
  }

  /** Ids and times of those that are due by then, the longest due first. */
  until(now: number): [id: number, time: number][] {
    return this.#order.slice(0, this.#placeOf(now, Number.POSITIVE_INFINITY)).map(({ id, time }) => [id, time]);
  }

  /** The first time after that one. */
  after(now: number): number | undefined {
    return this.#order[this.#placeOf(now, Number.POSITIVE_INFINITY)]?.time;
  }

  /** The first place that is not before. */
  #placeOf(time: number, id: number): number {
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

/** Records whose next runs are known at any time, once `load` has looked through them. */
export interface TimedRecords {
  readonly records: JobRecords<BackupSpec>;
  readonly due: DueTimes;
  load(): Promise<void>;
}

export function timedRecords(kept: JobRecords<BackupSpec>): TimedRecords {
  const due = new DueTimes();
  const note = ({ id, spec, state }: BackupRecord) => due.set(id, spec.disable ? undefined : state.next_run);
  const records: JobRecords<BackupSpec> = {
    ...kept,
    async create(spec, state) {
      const record = await kept.create(spec, state);
      note(record);
      return record;
    },
    async put(record, when) {
      await kept.put(record, when);
      note(record);
    },
    async delete(id) {
      await kept.delete(id);
      due.set(id, undefined);
    },
  };
  return {
    records,
    due,
    load: async () => {
      for (const record of await kept.list()) note(record);
    },
  };
}
