# node-gyp wants a "nodedir". A pure Node-API addon needs nothing of it: the headers come from the npm package
# node-api-headers, so that no build ever downloads Node's own headers.
{
  'variables': { 'visibility%': 'hidden', 'library%': 'shared_library', 'host_arch%': '<(host_arch)', 'target_arch%': '<(target_arch)' },
  'target_defaults': {
    'default_configuration': 'Release',
    'configurations': {
      'Release': { 'cflags': [ '-O3' ], 'defines': [ 'NDEBUG' ] },
      'Debug': { 'cflags': [ '-O0', '-g' ] }
    },
    'conditions': [
      ['OS=="linux"', { 'cflags': [ '-fPIC', '-pthread' ], 'ldflags': [ '-pthread', '-Wl,-z,nodelete' ] }],
      ['OS=="mac"', { 'xcode_settings': { 'OTHER_LDFLAGS': [ '-undefined dynamic_lookup' ] } }]
    ]
  }
}
