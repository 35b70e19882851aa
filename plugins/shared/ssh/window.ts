/** How much a server may send on a channel before it waits for us. */
import type { ClientChannel } from 'ssh2';

/** Used so far, the server is told that it is free again: in small steps, so that it never waits for one. */
const step = 256 << 10;

/** What ssh2 keeps of a channel and does not offer (lib/Channel.js of 1.17). */
interface Internals {
  readonly incoming: { window: number };
  readonly outgoing: { readonly id: number; readonly state: string };
  readonly _client: { readonly _protocol: { channelWindowAdjust(id: number, bytes: number): void } };
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;

function hasInternals(channel: unknown): channel is Internals {
  if (!isObject(channel)) return false;
  const { incoming, outgoing, _client: client } = channel;
  const protocol = isObject(client) ? client._protocol : undefined;
  return (
    isObject(incoming) &&
    typeof incoming.window === 'number' &&
    isObject(outgoing) &&
    typeof outgoing.id === 'number' &&
    isObject(protocol) &&
    typeof protocol.channelWindowAdjust === 'function'
  );
}

/** Lets the server have `room` bytes under way on a channel whose data is about to be read; all of it may wait in memory when
 *  nobody reads. ssh2 alone allows 2 MiB and says that some is free when half of it is: after the first round trip the server
 *  then waits for that each time, and one MiB passes in each. An ssh2 that looks otherwise inside works as it does by itself. */
export function keepWindowOpen(channel: ClientChannel, room: number): void {
  if (!hasInternals(channel)) return;
  const { incoming, outgoing } = channel;
  const tell = (): void => {
    const free = room - incoming.window;
    if (free < step || outgoing.state !== 'open') return;
    incoming.window += free;
    channel._client._protocol.channelWindowAdjust(outgoing.id, free);
  };
  tell();
  channel.on('data', tell);
}
