# layerd: one non-recursive Makefile. `make help` lists the targets.
#
# V=1                                                   shows whole commands
# VARIANT=release (default) | asan | tsan | coverage   each builds into its own folder below build/
# ONLY=PATTERN                                          `make check` runs only the programs that match
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

pkgs.daemon := libuv libmicrohttpd libcjson sqlite3 libcrypto libzstd liblzma libsystemd ext2fs \
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
## all: layerd and layerctl (the default)
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


.PHONY: units api-tests tools headers
## units, api-tests, tools: the test programs
units: $(UNITS)
api-tests: $(APITESTS)
tools: $(PROGS)

# A header includes what it needs: each one is compiled alone.
headers := $(wildcard daemon/*/*.h drivers/*.h api/*.h client/*.h tests/lib/*.h)
## headers: compiles each header alone
headers: $(headers:%=$(OUT)/headers/%.ok)
$(OUT)/headers/%.ok: % $(OUT)/flags
	@mkdir -p $(@D)
	@echo '#include "$<"' | $(CC) $(CFLAGS_ALL) -MT $@ -MF $(@:.ok=.d) -fsyntax-only -x c - && touch $@
-include $(shell find $(OUT)/headers -name '*.d' 2>/dev/null)

# ---- what has to be installed (Debian's packages) ----

deps.build := gcc libc6-dev make pkg-config libuv1-dev libmicrohttpd-dev libcjson-dev libsqlite3-dev libssl-dev \
              libzstd-dev liblzma-dev libbz2-dev libinih-dev libsystemd-dev libext2fs-dev libcurl4-openssl-dev uthash-dev \
              $(if $(filter amd64 arm64,$(shell dpkg --print-architecture 2>/dev/null)),libisal-dev,zlib1g-dev)
deps.demo  := mmdebstrap skopeo umoci ca-certificates
deps.bench := $(deps.demo) python3 isal buildah e2fsprogs
deps.test  := $(deps.demo) libcriterion-dev libarchive-dev libyaml-dev python3-yaml acl attr libcap2-bin zstd xz-utils \
              bzip2 isal e2fsprogs xfsprogs btrfs-progs systemd systemd-container curl jq procps crun runc busybox-static
deps.vm    := qemu-system-x86 e2fsprogs
deps.lint  := clang-format clang-tidy cppcheck shellcheck mandoc

# What is missing is installed; root is needed only then.
define install-missing
@missing=$$(for p in $(1); do dpkg-query -W -f '$${db:Status-Status}' $$p 2>/dev/null | grep -qx installed || echo $$p; done); \
[ -z "$$missing" ] || { \
    echo "  APT   " $$missing; \
    [ "$$(id -u)" = 0 ] || { echo "These packages are missing; run 'sudo make $@'." >&2; exit 1; }; \
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing \
        </dev/null >/dev/null; }
endef
.PHONY: deps deps-build deps-test deps-demo deps-bench deps-vm deps-lint
## deps: installs the packages missing for building, testing and the demo
deps: deps-build deps-test
deps-build deps-test deps-demo deps-bench deps-vm deps-lint: deps-%:
	$(call install-missing,$(deps.$*))
# One apt at a time, also with -j.
deps-test deps-demo deps-bench: deps-build
deps-lint: deps-test

# Once packages are there, everything above has to be asked for anew: a make of its own does the work.
again = +@$(MAKE) --no-print-directory $(if $(findstring -j,$(MAKEFLAGS)),,-j$$(nproc))

# ---- checks ----

.PHONY: check check-api check-san check-tsan check-vm check-static build-all
build-all: all units api-tests tools
scripts := $(wildcard .ci/* tests/*.sh tests/boot-kernel tests/vm/*.sh tests/e2e/*.sh tests/e2e/*.bash tests/bench/*.sh client/completion/*)
check-static: headers
	@tests/lint-includes $(sources)
	@tests/lint-openapi.py
	@for s in $(scripts); do bash -n $$s || exit 1; done
## check: builds everything and runs every test (root); ONLY=PATTERN for some
check: deps-build deps-test
	$(again) build-all check-static
	@tests/run.sh $(OUT) '$(ONLY)'
## check-san: the same with the address and undefined-behaviour sanitizers
check-san:
	+@$(MAKE) --no-print-directory VARIANT=asan check
## check-tsan: stress programs of jobs and store with the thread sanitizer
check-tsan: deps-build deps-test
	$(again) VARIANT=tsan build/tsan/tools/jobs-stress build/tsan/tools/store-stress
	build/tsan/tools/jobs-stress 20
	@mkdir -p build/tsan/store && rm -rf build/tsan/store/*
	build/tsan/tools/store-stress build/tsan/store 10
## check-vm: limits, on Debian's own kernel in an emulated machine (root; some minutes)
check-vm: deps-build deps-test deps-vm
	$(again) all
	@for t in tests/vm/*.sh; do $$t $(OUT) || exit 1; done
## check-api: the API tests alone, and what of the API they leave out
check-api: $(OUT)/layerd api-tests
	tests/lint-openapi.py
	tests/run-api $(OUT)

.PHONY: demo bench
## demo: shows layerd at work on real images, then cleans up (root)
demo: deps-build deps-demo
	$(again) all
	@tests/demo.sh $(OUT)
## bench: layerd beside what the same work costs without it (root; docs/BENCHMARKS.md)
bench: deps-build deps-bench
	$(again) all
	@for b in tests/bench/*.sh; do $$b $(OUT) || exit 1; done

# ---- how the code reads ----

sources := $(wildcard daemon/*.c daemon/*/*.[ch] drivers/*.[ch] api/*.[ch] client/*.[ch] tests/*/*.[ch])
.PHONY: lint lint-all lint-format lint-text lint-scripts lint-cppcheck lint-tidy format
## lint: format, sizes, banned functions, names, shellcheck, mandoc, cppcheck, clang-tidy
lint: deps-build deps-test deps-lint
	$(again) lint-all
lint-all: check-static lint-format lint-text lint-names lint-scripts lint-cppcheck lint-tidy
lint-format:
	@clang-format --dry-run -Werror $(sources)
lint-text:
	@tests/lint-text $(sources)
# The client and the daemon are linked apart; the reader and the debugger have both before them.
lint-names: $(OUT)/libclient.a $(OUT)/liblayerd.a $(OUT)/libtest.a
	@twice=$$(nm -P -g --defined-only $^ | awk '$$2 ~ /^[A-Z]$$/ { print $$1 }' | sort | uniq -d); \
	[ -z "$$twice" ] || { echo "defined twice:" $$twice >&2; exit 1; }
lint-scripts:
	@shellcheck -x $(filter-out %.py,$(shell grep -lE '^#!.*[/ ](ba)?sh( |$$)' .ci/* tests/* tests/*/* 2>/dev/null)) client/completion/*
	@mandoc -T lint -W warning docs/man/*
# A suppression stands beside what it is about, with its reason.
lint-cppcheck:
	@cppcheck --quiet -j $$(nproc) --std=c11 --language=c --enable=warning,portability --inline-suppr --error-exitcode=1 \
	    --library=tests/cppcheck.cfg -D_GNU_SOURCE -I. $(filter %.c,$(sources))
# A .clang-tidy that it cannot read is an error that clang-tidy prints and ends with 0 all the same: both decide.
lint-tidy: $(patsubst %.c,$(OUT)/tidy/%.ok,$(filter %.c,$(sources)))
$(OUT)/tidy/%.ok: %.c .clang-tidy $(OUT)/flags
	@mkdir -p $(@D)
	@$(CC) $(tidy-flags) -MM -MP -MT $@ -MF $(@:.ok=.d) $<
	$(call run,TIDY,clang-tidy --quiet $< -- $(tidy-flags) >$(@:.ok=.log) 2>&1 && ! grep -qE '(warning|error): ' $(@:.ok=.log) \
	    && touch $@ || { cat $(@:.ok=.log) >&2; exit 1; })
$(OUT)/tidy/tests/%.ok: tests/.clang-tidy
-include $(shell find $(OUT)/tidy -name '*.d' 2>/dev/null)
# gcc's flags as clang takes them; what it does not know of warnings it passes over.
tidy-flags = $(filter-out -ftrivial-auto-var-init=zero -MMD -MP -Werror,$(CFLAGS_ALL)) -Wno-unknown-warning-option \
             -DLD_SOURCE_ROOT='""' -DLD_BUILD_ROOT='""'
## format: formats all sources
format:
	clang-format -i $(sources)

# ---- installing ----

MANDIR  := $(DESTDIR)$(PREFIX)/share/man
DOCDIR  := $(DESTDIR)$(PREFIX)/share/doc/layerd
.PHONY: install clean help
## install: into DESTDIR, below PREFIX (/usr)
install: all
	install -D -m 755 $(OUT)/layerd $(DESTDIR)$(PREFIX)/sbin/layerd
	install -D -m 755 $(OUT)/layerctl $(DESTDIR)$(PREFIX)/bin/layerctl
	for m in $(wildcard docs/man/*.[1-8]); do \
	    install -D -m 644 $$m $(MANDIR)/man$${m##*.}/$${m##*/} || exit 1; done
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system systemd/layerd.socket systemd/layerd.service
	sed -i 's|/usr/sbin/|$(PREFIX)/sbin/|' $(DESTDIR)$(PREFIX)/lib/systemd/system/layerd.service
	install -D -m 644 systemd/layerd.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/layerd.conf
	install -D -m 644 systemd/layerd.tmpfiles $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/layerd.conf
	install -D -m 644 client/completion/layerctl.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/layerctl
	install -D -m 644 -t $(DOCDIR) openapi.yaml LICENSE $(wildcard *.md docs/*.md)
## clean: removes this variant's build folder (build/ with all variants for release)
clean:
	rm -rf $(OUT)
## help: this list
help:
	@sed -n 's/^## \([^:]*\): \(.*\)/  \1\t\2/p' Makefile | sort | awk -F '\t' '{printf "%-26s %s\n", $$1, $$2}'
	@sed -n '3,/^$$/s/^# \{0,1\}//p' Makefile
