/** The receive window of an SSH channel: how much the server may send before it waits. */
import type { ClientChannel } from 'ssh2';
import { isFields } from '../primitives/guards.js';

/** Free bytes that trigger a window adjustment: small, so that the server never waits for one. */
const step = 256 << 10;

/** Private fields of an ssh2 channel (lib/Channel.js of 1.17). */
interface Internals {
  readonly incoming: { window: number };
  readonly outgoing: { readonly id: number; readonly state: string };
  readonly _client: { readonly _protocol: { channelWindowAdjust(id: number, bytes: number): void } };
}

function hasInternals(channel: unknown): channel is Internals {
  if (!isFields(channel)) return false;
  const { incoming, outgoing, _client: client } = channel;
  const protocol = isFields(client) ? client._protocol : undefined;
  return (
    isFields(incoming) &&
    typeof incoming.window === 'number' &&
    isFields(outgoing) &&
    typeof outgoing.id === 'number' &&
    isFields(protocol) &&
    typeof protocol.channelWindowAdjust === 'function'
  );
}

/** Lets the server have `room` bytes in flight on a channel; all of it may wait in memory if nobody reads. ssh2 alone allows 2 MiB
 *  and adjusts the window when half of it is free, so that the server waits a round trip for each MiB. An ssh2 with other private
 *  fields keeps its own behaviour. */
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
