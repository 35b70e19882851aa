/** Shares a target's bandwidth limit equally among the runs that use it. */
export class BandwidthShares {
  readonly #users = new Map<number, Set<(bytesPerSecond: number) => void>>();

  constructor(private readonly limitOf: (target: number) => Promise<number>) {}

  /** The part that one more run would get. */
  async part(target: number): Promise<number> {
    return partOf(await this.limitOf(target), (this.#users.get(target)?.size ?? 0) + 1);
  }

  /** Adds a run and gives every run of the target its new part. @returns a function that removes it */
  join(target: number, tell: (bytesPerSecond: number) => void): () => void {
    const users = this.#users.get(target) ?? new Set();
    this.#users.set(target, users.add(tell));
    void this.share(target);
    return () => {
      users.delete(tell);
      if (users.size === 0) this.#users.delete(target);
      else void this.share(target);
    };
  }

  /** Call when the limit or the number of runs changed. */
  async share(target: number): Promise<void> {
    const limit = await this.limitOf(target).catch(() => undefined); // the store's own log reports it; the parts stay
    const users = this.#users.get(target);
    if (limit === undefined || users === undefined) return;
    for (const tell of users) tell(partOf(limit, users.size));
  }
}

/** A limit of 0 means none, for each run too. */
const partOf = (limit: number, users: number): number => (limit === 0 ? 0 : Math.max(1, Math.floor(limit / users)));
