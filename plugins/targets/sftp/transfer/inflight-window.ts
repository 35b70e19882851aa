/** Window of bytes in flight: grows while answers come fast, and shrinks when they take over a second. On a slow line a full pipe
 *  would delay an abort, since the request to remove follows all that was sent. */
export class InflightWindow {
  #limit = start;

  get limit(): number {
    return this.#limit;
  }
  /** Reports that a request of so many bytes was answered after so many milliseconds. */
  took(milliseconds: number, bytes: number): void {
    const change = milliseconds > slow ? -bytes / 2 : milliseconds < slow / 2 ? bytes : 0;
    this.#limit = Math.min(most, Math.max(least, this.#limit + change));
  }
}

const start = 1 << 20;
const least = 256 << 10;
/** A larger window is no faster, even over loopback, and takes memory. */
const most = 4 << 20;
const slow = 1_000;
