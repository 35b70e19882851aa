/** A target's bandwidth, shared in equal parts by the runs that use it. */
export class BandwidthShares {
  readonly #users = new Map<number, Set<(bytesPerSecond: number) => void>>();

  constructor(private readonly limitOf: (target: number) => Promise<number>) {}

  /** The part of one more run. */
  async part(target: number): Promise<number> {
    return partOf(await this.limitOf(target), (this.#users.get(target)?.size ?? 0) + 1);
  }

  /** A run uses the target: it and the others are told their parts. @returns ends that */
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

  /** The limit or the number of runs is another. */
  async share(target: number): Promise<void> {
    const limit = await this.limitOf(target).catch(() => undefined); // the store says so elsewhere; the parts stay
    const users = this.#users.get(target);
    if (limit === undefined || users === undefined) return;
    for (const tell of users) tell(partOf(limit, users.size));
  }
}

/** 0 stays no limit. */
const partOf = (limit: number, users: number): number => (limit === 0 ? 0 : Math.max(1, Math.floor(limit / users)));
