import type { SshConnection } from '../../shared/ssh/connection.js';
import { type Remote, remoteOf } from './remote.js';

/** One that waits longer might see a place that has changed under it, by a mount say. */
const longestWait = 10_000;
/** So many commands at most have one that waits. */
const most = 2;

interface Ready {
  readonly connection: SshConnection;
  readonly remote: Promise<Remote>;
  readonly timer: NodeJS.Timeout;
}

/** Commands that run on the server already and wait for their other side. All that tells one file from another travels in
 *  rsync's protocol, so that many calls have the same command. */
export class Waiting {
  readonly #ready = new Map<string, Ready>();
  #off = false;

  /** Starts a command, or gives the one that waits. */
  async take(connection: SshConnection, command: string): Promise<Remote> {
    const ready = this.#ready.get(command);
    if (ready !== undefined) {
      this.#ready.delete(command);
      clearTimeout(ready.timer);
      const remote = await ready.remote.catch(() => undefined);
      if (remote !== undefined && !remote.over && ready.connection === connection) return remote;
    }
    return remoteOf(await connection.exec(command));
  }

  /** Starts a command that somebody will take soon. */
  start(connection: SshConnection, command: string): void {
    if (this.#off || this.#ready.has(command) || this.#ready.size >= most) return;
    const remote = connection.exec(command).then(remoteOf);
    const refused = (): void => {
      if (this.#ready.get(command)?.remote === remote) this.close();
    };
    // one that ends by itself is not let wait (rrsync without -no-lock serves one at a time); or there is no other channel
    remote.then(({ channel }) => channel.once('exit', refused), refused);
    const timer = setTimeout(() => this.#drop(command), longestWait).unref();
    this.#ready.set(command, { connection, remote, timer });
  }

  #drop(command: string): void {
    const ready = this.#ready.get(command);
    this.#ready.delete(command);
    clearTimeout(ready?.timer);
    ready?.remote.then(
      ({ channel }) => channel.destroy(),
      () => undefined,
    );
  }

  /** Ends all that wait, and lets nothing wait any more. */
  close(): void {
    this.#off = true;
    this.rest();
  }
  /** Ends all that wait: nobody will take them soon. */
  rest(): void {
    for (const command of [...this.#ready.keys()]) this.#drop(command);
  }
}
