# layerd: one non-recursive Makefile. `make help` lists the targets.
#
# V=1                                                   shows whole commands
# VARIANT=release (default) | asan | tsan | coverage   each builds into its own folder below build/
# PREFIX, DESTDIR                                       for `make install`

VARIANT ?= release
PREFIX  ?= /usr
DESTDIR ?=
CC      ?= gcc
VERSION := $(shell cat VERSION)

out.release  := build
out.asan     := build/asan
out.tsan     := build/tsan
out.coverage := build/coverage
OUT := $(out.$(VARIANT))
$(if $(OUT),,$(error VARIANT=$(VARIANT) is none of release, asan, tsan, coverage))

pkgs.daemon := libuv libmicrohttpd libcjson sqlite3 libcrypto libzstd liblzma libsystemd \
               $(shell pkg-config --exists libisal && echo libisal || echo zlib)
pkgs.client := libcurl libcjson libcrypto libsystemd
pkgs.test   := criterion libcurl libarchive yaml-0.1
PKGS        := $(sort $(pkgs.daemon) $(pkgs.client))

# Flags that not every compiler has are asked for once.
cc-option = $(shell $(CC) -Werror $(1) -c -x c /dev/null -o /dev/null 2>/dev/null && echo $(1))
probe := $(foreach f,-fstack-clash-protection -fcf-protection=full -ftrivial-auto-var-init=zero \
           -Wduplicated-cond -Wlogical-op -Wjump-misses-init,$(call cc-option,$(f)))

WARN := -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wformat=2 -Wstrict-prototypes \
        -Wmissing-prototypes -Wundef -Wvla -Wwrite-strings -Wpointer-arith -Wframe-larger-than=16384 \
        -Wno-missing-field-initializers -Werror
BASE := -std=gnu17 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -I. -DLD_VERSION='"$(VERSION)"' \
        -fno-strict-aliasing -fno-common -g -MMD -MP
flags.release  := -O2 -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fPIE
flags.asan     := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined -Wno-frame-larger-than -Wno-maybe-uninitialized
flags.tsan     := -O1 -fno-omit-frame-pointer -fsanitize=thread -Wno-frame-larger-than -Wno-maybe-uninitialized
flags.coverage := -O0 --coverage
ldflags.release  := -pie -Wl,-z,relro,-z,now,-z,noexecstack
ldflags.asan     := -fsanitize=address,undefined
ldflags.tsan     := -fsanitize=thread
ldflags.coverage := --coverage

CFLAGS_ALL  := $(BASE) $(WARN) $(probe) $(flags.$(VARIANT)) $(shell pkg-config --cflags $(PKGS) 2>/dev/null) $(CFLAGS)
LDFLAGS_ALL := $(ldflags.$(VARIANT)) $(LDFLAGS)
libs.daemon := $(shell pkg-config --libs $(pkgs.daemon) 2>/dev/null) -lbz2 -linih -lpthread
libs.client := $(shell pkg-config --libs $(pkgs.client) 2>/dev/null)
libs.test   := $(shell pkg-config --libs $(pkgs.test) 2>/dev/null)

src.daemon := $(filter-out daemon/main.c,$(wildcard daemon/*/*.c drivers/*.c api/*.c))
src.base   := $(wildcard daemon/base/*.c)
src.client := $(filter-out client/main.c,$(wildcard client/*.c))
src.testlib := $(wildcard tests/lib/*.c)
unit.src   := $(wildcard tests/unit/test_*.c)
api.src    := $(wildcard tests/api/test_*.c)
prog.src   := $(wildcard tests/tools/*.c)

obj = $(patsubst %.c,$(OUT)/obj/%.o,$(1))
# A command shown by its short name; V=1 shows all of it.
run = @$(if $(V),echo '$(2)',echo '  $(1) $@'); $(2)
UNITS := $(patsubst tests/unit/%.c,$(OUT)/unit/%,$(unit.src))
APITESTS := $(patsubst tests/api/%.c,$(OUT)/api-tests/%,$(api.src))
PROGS := $(patsubst tests/tools/%.c,$(OUT)/tools/%,$(prog.src))

.PHONY: all
all: $(OUT)/layerd $(OUT)/layerctl

$(OUT)/liblayerd.a: $(call obj,$(src.daemon))
$(OUT)/libbase.a: $(call obj,$(src.base))
$(OUT)/libclient.a: $(call obj,$(src.client))
$(OUT)/libtest.a: $(call obj,$(src.testlib))
$(OUT)/%.a:
	@mkdir -p $(@D)
	@rm -f $@
	$(call run,AR,ar rcs $@ $^)

$(OUT)/layerd: $(call obj,daemon/main.c) $(OUT)/liblayerd.a
	$(call run,LD,$(CC) $(LDFLAGS_ALL) -o $@ $^ $(libs.daemon))
$(OUT)/layerctl: $(call obj,client/main.c) $(OUT)/libclient.a $(OUT)/libbase.a
	$(call run,LD,$(CC) $(LDFLAGS_ALL) -o $@ $^ $(libs.client))
# The client and the daemon are two programs: a test is of the one or of the other.
$(OUT)/unit/test_client_%: $(OUT)/obj/tests/unit/test_client_%.o $(OUT)/libtest.a $(OUT)/libclient.a $(OUT)/libbase.a
	@mkdir -p $(@D)
	$(call run,LD,$(CC) $(LDFLAGS_ALL) -o $@ $^ $(libs.test) $(libs.client))
$(OUT)/unit/%: $(OUT)/obj/tests/unit/%.o $(OUT)/libtest.a $(OUT)/liblayerd.a
	@mkdir -p $(@D)
	$(call run,LD,$(CC) $(LDFLAGS_ALL) -o $@ $^ $(libs.test) $(libs.daemon))
$(OUT)/api-tests/%: $(OUT)/obj/tests/api/%.o $(OUT)/libtest.a $(OUT)/liblayerd.a
	@mkdir -p $(@D)
	$(call run,LD,$(CC) $(LDFLAGS_ALL) -o $@ $^ $(libs.test) $(libs.daemon))
$(OUT)/tools/%: $(OUT)/obj/tests/tools/%.o $(OUT)/libtest.a $(OUT)/liblayerd.a
	@mkdir -p $(@D)
	$(call run,LD,$(CC) $(LDFLAGS_ALL) -o $@ $^ $(libs.test) $(libs.daemon))

# Tests leave the tree for their private world and find it again by these.
$(OUT)/obj/tests/%.o: private CFLAGS_ALL += -DLD_SOURCE_ROOT='"$(CURDIR)"' -DLD_BUILD_ROOT='"$(CURDIR)/$(OUT)"'
$(OUT)/obj/%.o: %.c $(OUT)/flags
	@mkdir -p $(@D)
	$(call run,CC,$(CC) $(CFLAGS_ALL) -c -o $@ $<)

# Other flags than last time: everything is built again.
$(OUT)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(CFLAGS_ALL)' | cmp -s - $@ || echo '$(CC) $(CFLAGS_ALL)' > $@
.PHONY: FORCE
FORCE:

.SECONDARY:
-include $(shell find $(OUT)/obj -name '*.d' 2>/dev/null)

.PHONY: units api-tests tools
units: $(UNITS)
api-tests: $(APITESTS)
tools: $(PROGS)

.PHONY: check-api
check-api: $(OUT)/layerd api-tests
	tests/lint-openapi.py
	tests/run-api $(OUT)
