import type { SshConnection } from '../../shared/ssh.js';

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
  /** Whether it has ended. */
  readonly over: boolean;
}

const textLimit = 64 << 10;

/** Listens to a channel from its beginning: how it ends is said only once. */
export function remoteOf(channel: Channel): Remote {
  let code: number | undefined;
  let text = '';
  channel.on('error', () => undefined); // a broken connection ends the channel, too
  channel.stderr.on('error', () => undefined);
  channel.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    if (text.length < textLimit) text += chunk;
  });
  channel.on('exit', (status: unknown) => {
    if (typeof status === 'number') code = status;
  });
  let over = false;
  channel.once('end', () => {
    over = true;
  });
  const ended = new Promise<RemoteEnd>((resolve) =>
    channel.once('close', () => {
      over = true;
      resolve({ code, text });
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
