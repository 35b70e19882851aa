import { isAbsolute, normalize } from 'node:path';
import { PluginError, type RuntimePlugin } from '../../../core/contract/index.js';
import { LxcRuntime } from './runtime.js';

/** The containers of one LXC path. */
const plugin: RuntimePlugin<{ path: string }> = {
  async open(context) {
    const { path } = context.options;
    // with a relative path the lxc-* tools show every container as stopped
    if (!isAbsolute(path)) throw new PluginError('invalid', `the LXC path ${path} is not absolute`);
    return new LxcRuntime(normalize(path).replace(/(?<=.)\/+$/, ''), context);
  },
};
export default plugin;
