import type { SshConnection } from '../../shared/ssh/connection.js';

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
export class PrestartedCommands {
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

export type Channel = Awaited<ReturnType<SshConnection['exec']>>;

/** How a command on the server ended. */
export interface RemoteEnd {
  /** Undefined when it was killed, or when the connection broke before it said. */
  readonly code: number | undefined;
  /** What it wrote to its standard error. */
  readonly text: string;
}

/** A command that runs on the server. */
export interface Remote {
  readonly channel: Channel;
  readonly ended: Promise<RemoteEnd>;
  /** Whether it is known to have ended. */
  readonly over: boolean;
}

const textLimit = 64 << 10;

/** Listens to a channel from its beginning: how it ends is said only once. */
export function remoteOf(channel: Channel): Remote {
  let text = '';
  let over = false;
  channel.on('error', () => undefined); // a broken connection ends the channel, too
  channel.stderr.on('error', () => undefined);
  channel.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    if (text.length < textLimit) text += chunk;
  });
  channel.once('exit', () => {
    over = true; // is told even when nobody reads
  });
  const ended = new Promise<RemoteEnd>((resolve) =>
    channel.once('close', (status: unknown) => {
      over = true;
      resolve({ code: typeof status === 'number' ? status : undefined, text });
    }),
  );
  return {
    channel,
    ended,
    get over() {
      return over;
    },
  };
}
