/** Opens the sftp target for its suites. */
import type { PluginContext, Target } from '../../core/contract/index.js';
import type { SftpOptions } from '../../plugins/targets/sftp/connection.js';
import sftp from '../../plugins/targets/sftp/index.js';
import { never } from '../conformance/target/support.js';
import type { Sshd } from '../support/servers/sshd.js';

/** The plugin's context, as the core would make it. */
export const contextOf = (options: SftpOptions, signal = never()): PluginContext<SftpOptions> => ({
  log: () => undefined,
  signal,
  stateFolder: '/nonexistent',
  options,
});

/** Opens a target on a server, with its ed25519 key pinned. */
export const openSftp = (server: Sshd, o: Partial<SftpOptions>, signal?: AbortSignal): Promise<Target> => {
  const { host, port, user: username } = server;
  return sftp.open(contextOf({ host, port, username, hostKey: server.fingerprints.ed25519, ...o }, signal));
};
