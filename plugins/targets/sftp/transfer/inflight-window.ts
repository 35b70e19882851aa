/** How many bytes may be under way at a time: as many as the way carries, but no more than it takes within about a second.
 *  On a slow line a full pipe would hold up whoever wants to stop, since the request to remove comes after all that was sent. */
export class InflightWindow {
  #limit = start;

  get limit(): number {
    return this.#limit;
  }
  /** A request of so many bytes was answered after so many milliseconds. */
  took(milliseconds: number, bytes: number): void {
    const change = milliseconds > slow ? -bytes / 2 : milliseconds < slow / 2 ? bytes : 0;
    this.#limit = Math.min(most, Math.max(least, this.#limit + change));
  }
}

const start = 1 << 20;
const least = 256 << 10;
/** More is no faster, even over loopback, and all of it is memory. */
const most = 4 << 20;
const slow = 1_000;
