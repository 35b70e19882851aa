import type { SshConnection } from '../../shared/ssh/connection.js';

/** Age limit of a prestarted command, ms: an older one may see the file system as it was before a mount. */
const longestWait = 10_000;
/** How many command lines may have a prestarted command. */
const most = 2;

interface Ready {
  readonly connection: SshConnection;
  readonly remote: Promise<Remote>;
  readonly timer: NodeJS.Timeout;
}

/** Commands that already run on the server and wait for their other side. Only rsync's protocol tells one file from another, so
 *  many calls have the same command line. */
export class PrestartedCommands {
  readonly #ready = new Map<string, Ready>();
  #off = false;

  /** Gives the prestarted command, or starts one. */
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

  /** Prestarts a command for a later call. */
  start(connection: SshConnection, command: string): void {
    if (this.#off || this.#ready.has(command) || this.#ready.size >= most) return;
    const remote = connection.exec(command).then(remoteOf);
    const refused = (): void => {
      if (this.#ready.get(command)?.remote === remote) this.close();
    };
    // it exited (rrsync without -no-lock serves one at a time), or the server refuses another channel: prestart no more
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

  /** Ends all prestarted commands and starts no more. */
  close(): void {
    this.#off = true;
    this.rest();
  }
  /** Ends all prestarted commands: no call will take them soon. */
  rest(): void {
    for (const command of [...this.#ready.keys()]) this.#drop(command);
  }
}

export type Channel = Awaited<ReturnType<SshConnection['exec']>>;

/** The result of a command on the server. */
export interface RemoteEnd {
  /** Exit code; undefined after a kill, or when the connection broke first. */
  readonly code: number | undefined;
  /** Its standard error. */
  readonly text: string;
}

/** A command that runs on the server. */
export interface Remote {
  readonly channel: Channel;
  readonly ended: Promise<RemoteEnd>;
  /** Whether its end was reported. */
  readonly over: boolean;
}

const textLimit = 64 << 10;

/** Listens to a channel from its beginning, because its end is reported only once. */
export function remoteOf(channel: Channel): Remote {
  let text = '';
  let over = false;
  channel.on('error', () => undefined); // a broken connection ends the channel, too
  channel.stderr.on('error', () => undefined);
  channel.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    if (text.length < textLimit) text += chunk;
  });
  channel.once('exit', () => {
    over = true; // 'exit' comes even when nobody reads
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
