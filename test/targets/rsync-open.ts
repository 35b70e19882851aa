/** Opens the rsync target for its suites. */
import type { Target } from '../../core/contract/index.js';
import plugin, { type RsyncOptions } from '../../plugins/targets/rsync/index.js';
import { never } from '../conformance/target/support.js';
import type { Sshd } from '../support/servers/sshd.js';

export type RsyncOpening = Partial<RsyncOptions> & { log?(level: string, message: string): void };

/** Opens a target on a server, with its ed25519 key pinned. Pieces are staged below `stateFolder`. */
export function openRsync(server: Sshd, stateFolder: string, { log = () => undefined, ...more }: RsyncOpening = {}): Promise<Target> {
  const { host, port, user: username } = server;
  const options = { host, port, username, hostKey: server.fingerprints.ed25519, ...more };
  return plugin.open({ options, stateFolder, signal: never(), log });
}
