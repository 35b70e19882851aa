/** A process of its own that hands everything between its port and another one of this machine on half a round trip later, in
 *  order: a long way made of loopback. Only time is added: no loss, no slow start, no limit to what is under way but memory.
 *  Arguments: the other port, the milliseconds of a round trip. Sends its own port. */
import { createServer, Socket } from 'node:net';

/** Of one direction of one connection. */
const mostUnderWay = 64 << 20;

/** One direction. */
class Way {
  /** The last is the end of the stream. */
  readonly #queue: { readonly due: number; readonly chunk: Buffer | undefined }[] = [];
  #underWay = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly from: Socket,
    private readonly to: Socket,
    private readonly delay: number,
    /** What comes sooner counts as sent then. */
    private readonly notBefore: number,
  ) {
    from.on('data', (chunk: Buffer) => this.#take(chunk));
    from.on('end', () => this.#take(undefined));
    from.on('error', () => undefined); // 'close' follows
    from.on('close', (failed: boolean) => {
      if (failed) setTimeout(() => to.destroy(), delay);
    });
  }

  #take(chunk: Buffer | undefined): void {
    this.#queue.push({ due: Math.max(performance.now(), this.notBefore) + this.delay, chunk });
    this.#underWay += chunk?.length ?? 0;
    if (this.#underWay > mostUnderWay) this.from.pause();
    this.#plan();
  }

  #plan(): void {
    const [next] = this.#queue;
    if (next === undefined || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => this.#hand(), Math.max(0, next.due - performance.now()));
  }

  #hand(): void {
    this.#timer = undefined;
    // timers have whole milliseconds
    const late = performance.now() + 0.5;
    const due = this.#queue.findIndex((one) => one.due > late);
    for (const { chunk } of this.#queue.splice(0, due < 0 ? this.#queue.length : due)) {
      if (this.to.destroyed) continue;
      if (chunk === undefined) this.to.end();
      else this.to.write(chunk, () => this.#handed(chunk.length));
    }
    this.#plan();
  }

  #handed(bytes: number): void {
    this.#underWay -= bytes;
    if (this.#underWay <= mostUnderWay) this.from.resume();
  }
}

function relay(client: Socket, port: number, roundTrip: number): void {
  const delay = roundTrip / 2;
  const server = new Socket({ allowHalfOpen: true });
  // TCP's own handshake: the client may send after one round trip, and half of another later the server knows of it
  const known = performance.now() + roundTrip + delay;
  new Way(client, server, delay, known - delay);
  new Way(server, client, delay, known);
  server.connect({ port, host: '127.0.0.1', noDelay: true });
}

const [port = 0, roundTrip = 0] = process.argv.slice(2).map(Number);
const listener = createServer({ allowHalfOpen: true, noDelay: true }, (client) => relay(client, port, roundTrip));
listener.listen(0, '127.0.0.1', () => {
  const address = listener.address();
  if (typeof address === 'object') process.send?.(address?.port);
});
process.once('disconnect', () => process.exit());
