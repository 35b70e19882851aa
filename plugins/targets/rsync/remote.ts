import type { SshConnection } from '../../shared/ssh/connection.js';

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
