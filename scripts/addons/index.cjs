// Finding, judging and explaining addons: what lib/native.ts, build, doctor and prebuild share. It loads none.
'use strict';
const { judge, explain } = require('./explain.cjs');
const { inspectBinary } = require('./binary.cjs');
const { BUILT, VARIABLES, findAddon, findPrebuilt, machineLibc, platform } = require('./lookup.cjs');
const { isCheckout, root, runner, version } = require('./place.cjs');
const { locateLibtorch } = require('./torch.cjs');

module.exports = {
  BUILT,
  VARIABLES,
  explain,
  findAddon,
  findPrebuilt,
  inspectBinary,
  isCheckout,
  judge,
  locateLibtorch,
  machineLibc,
  platform,
  root,
  runner,
  version,
};
