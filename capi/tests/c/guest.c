/* Guest-physical memory: slots and their parts, faults, the other direction, dirty logging. */
#include <stdint.h>

#include "log.h"

#define LEAVES (0x1000 + 0x200000)

static struct kvma_guest *new_guest(void) {
    struct kvma_guest *guest = NULL;
    CHECK_EQ(kvma_guest_new(&guest, 0, UINT32_MAX, PAGE, NULL), KVMA_OK);
    return guest;
}

static struct kvma_guest_slot_request ram(uint64_t start, uint64_t len, uint64_t host) {
    struct kvma_guest_slot_request request;
    memset(&request, 0, sizeof request);
    request.start = start;
    request.len = len;
    request.backing.kind = KVMA_GUEST_BACKING_HOST;
    request.backing.offset = host;
    return request;
}

static struct kvma_guest_update *begin(struct kvma_guest *guest, const struct kvma_hooks *hooks) {
    struct kvma_guest_update *update = NULL;
    CHECK_EQ(kvma_guest_update_new(&update, guest, hooks, 3), KVMA_OK);
    return update;
}

static void end(struct kvma_guest_update *update, struct kvma_guest *guest) {
    CHECK_EQ(kvma_guest_update_finish(update), KVMA_OK);
    CHECK_EQ(kvma_guest_check(guest), KVMA_OK);
}

static uint32_t add(struct kvma_guest *guest, struct kvma_guest_slot_request request) {
    uint32_t slot = UINT32_MAX;
    struct kvma_guest_update *update = begin(guest, NULL);
    CHECK_EQ(kvma_guest_add_slot(update, guest, &request, &slot), KVMA_OK);
    end(update, guest);
    return slot;
}

TEST(slots_come_and_go_whole) {
    struct kvma_guest *guest = new_guest();
    int mine;
    struct log log;
    struct kvma_hooks table = hooks(&log);
    struct kvma_guest_slot_request request = ram(0x100000, 16 * PAGE, 0x700000);
    request.data = &mine;
    struct kvma_guest_update *update = begin(guest, &table);
    uint32_t slot = 9;
    CHECK_EQ(kvma_guest_add_slot(update, guest, &request, &slot), KVMA_OK);
    CHECK_EQ(slot, 0);
    end(update, guest);
    expect(&log, "Mm");
    CHECK_EQ(kvma_guest_slot_count(guest), 1);

    struct kvma_guest_region region;
    void *data = NULL;
    CHECK_EQ(kvma_guest_slot(guest, 0, &region, &data), KVMA_OK);
    CHECK(data == &mine);
    CHECK_EQ(region.range.start, 0x100000);
    CHECK_EQ(region.kind, KVMA_GUEST_RAM);
    CHECK_EQ(region.prot, KVMA_READ | KVMA_WRITE | KVMA_EXEC);
    CHECK_EQ(region.backing.offset, 0x700000);

    /* Who is in the way is named; a number that was asked for is kept. */
    update = begin(guest, &table);
    request = ram(0x10f000, 2 * PAGE, 0x900000);
    slot = 9;
    CHECK_EQ(kvma_guest_add_slot(update, guest, &request, &slot), KVMA_SLOT_IN_THE_WAY);
    CHECK_EQ(slot, 0);
    request.start = 0x200000;
    request.numbered = true;
    CHECK_EQ(kvma_guest_add_slot(update, guest, &request, NULL), KVMA_SLOT_NUMBER_TAKEN);
    request.number = 7;
    CHECK_EQ(kvma_guest_add_slot(update, guest, &request, &slot), KVMA_OK);
    CHECK_EQ(slot, 7);
    CHECK_EQ(kvma_guest_remove_range(update, guest, 0x200000, PAGE, NULL, NULL),
             KVMA_SLOT_NOT_WHOLE);
    CHECK_EQ(kvma_guest_remove_range(update, guest, 0x200000, 2 * PAGE, NULL, NULL), KVMA_OK);
    CHECK_EQ(kvma_guest_remove_slot(update, guest, 7, NULL, NULL), KVMA_NO_SLOT);
    CHECK_EQ(kvma_guest_remove_slot(update, guest, 0, &region, &data), KVMA_OK);
    CHECK(data == &mine);
    CHECK_EQ(region.range.len, 16 * PAGE);
    end(update, guest);
    CHECK_EQ(kvma_guest_region_count(guest), 0);
    CHECK_EQ(kvma_guest_free(guest), KVMA_OK);
}

TEST(faults_are_answered) {
    struct kvma_guest *guest = new_guest();
    uint32_t slot = add(guest, ram(0x1000, 0x600000, 0x201000));
    struct kvma_guest_slot_request request = ram(0x1000000, 4 * PAGE, 0xa00000);
    request.kind = KVMA_GUEST_ROM;
    uint32_t rom = add(guest, request);
    request = ram(0xfee00000, PAGE, 0);
    request.kind = KVMA_GUEST_MMIO;
    request.backing.kind = KVMA_GUEST_BACKING_DEVICE;
    request.backing.id = 42;
    add(guest, request);

    struct kvma_guest_fault_answer answer;
    CHECK_EQ(kvma_guest_fault(guest, 0x203456, KVMA_WRITE, KVMA_GUEST_ANY_PAGE, LEAVES, &answer),
             KVMA_OK);
    CHECK_EQ(answer.action, KVMA_GUEST_FAULT_MAP);
    CHECK_EQ(answer.slot, slot);
    CHECK_EQ(answer.gpa, 0x200000);
    CHECK_EQ(answer.leaf_size, 0x200000);
    CHECK_EQ(answer.backing.offset, 0x400000);
    CHECK(!answer.dirties);
    CHECK_EQ(kvma_guest_fault(guest, 0x203456, KVMA_WRITE, KVMA_GUEST_ANY_PAGE, 0, &answer),
             KVMA_OK);
    CHECK_EQ(answer.leaf_size, PAGE);
    CHECK_EQ(kvma_guest_fault(guest, 0x1001000, KVMA_WRITE, KVMA_GUEST_ANY_PAGE, LEAVES, &answer),
             KVMA_OK);
    CHECK_EQ(answer.action, KVMA_GUEST_FAULT_READ_ONLY);
    CHECK_EQ(answer.slot, rom);
    CHECK_EQ(kvma_guest_fault(guest, 0xfee00020, KVMA_READ, KVMA_GUEST_ANY_PAGE, LEAVES, &answer),
             KVMA_OK);
    CHECK_EQ(answer.action, KVMA_GUEST_FAULT_EMULATE);
    CHECK_EQ(answer.backing.id, 42);
    CHECK_EQ(answer.backing.offset, 0x20);
    CHECK_EQ(kvma_guest_fault(guest, 0x10, KVMA_READ, KVMA_GUEST_ANY_PAGE, LEAVES, &answer),
             KVMA_OK);
    CHECK_EQ(answer.action, KVMA_GUEST_FAULT_NOTHING_THERE);
    CHECK_EQ(answer.slot, UINT32_MAX);
    CHECK_EQ(kvma_guest_fault(guest, 0x2000, KVMA_READ, KVMA_GUEST_PRIVATE_PAGE, LEAVES, &answer),
             KVMA_OK);
    CHECK_EQ(answer.action, KVMA_GUEST_FAULT_CONVERT);
    CHECK_EQ(kvma_guest_fault(guest, 0x2000, KVMA_READ, 3, LEAVES, &answer), KVMA_BAD_ARGUMENT);
    CHECK_EQ(kvma_guest_fault(guest, 0x2000, 8, KVMA_GUEST_ANY_PAGE, LEAVES, &answer),
             KVMA_BAD_ARGUMENT);

    struct kvma_guest_translation place;
    CHECK_EQ(kvma_guest_translate(guest, 0x2fff, &place), KVMA_OK);
    CHECK_EQ(place.backing.offset, 0x202fff);
    CHECK_EQ(place.remaining, 0x600000 - 0x1fff);
    CHECK_EQ(kvma_guest_translate(guest, 0xfee00000, &place), KVMA_NOT_MAPPED);
    CHECK_EQ(kvma_guest_free(guest), KVMA_OK);
}

static bool sum(void *udata, uint64_t gpa, uint64_t size, const struct kvma_guest_backing *at) {
    uint64_t *sizes = udata;
    CHECK_EQ(at->offset, gpa + 0x200000);
    sizes[0] += size;
    sizes[1]++;
    return sizes[1] < 4;
}

TEST(blocks_are_as_large_as_can_be) {
    struct kvma_guest *guest = new_guest();
    add(guest, ram(0x1ff000, 0x203000, 0x3ff000));
    uint64_t sizes[2] = {0, 0};
    CHECK_EQ(kvma_guest_blocks(guest, 0x1ff000, 0x202000, LEAVES, sum, sizes), KVMA_OK);
    CHECK_EQ(sizes[0], 0x202000);
    CHECK_EQ(sizes[1], 3);
    sizes[1] = 0;
    CHECK_EQ(kvma_guest_blocks(guest, 0, UINT32_MAX, LEAVES, sum, sizes), KVMA_STOPPED);
    CHECK_EQ(kvma_guest_blocks(guest, 0, UINT32_MAX, LEAVES, NULL, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_guest_free(guest), KVMA_OK);
}

TEST(parts_of_slots_change) {
    struct kvma_guest *guest = new_guest();
    struct log log;
    struct kvma_hooks table = hooks(&log);
    struct kvma_guest_slot_request request = ram(0x100000, 16 * PAGE, 0x700000);
    request.state = KVMA_GUEST_UNPLUGGED;
    uint32_t slot = add(guest, request), named = 9;
    struct kvma_guest_update *update = begin(guest, &table);
    CHECK_EQ(kvma_guest_plug(update, guest, slot, 0x102000, 4 * PAGE, NULL), KVMA_OK);
    end(update, guest);
    expect(&log, "Pp<>");
    struct kvma_guest_region region;
    CHECK_EQ(kvma_guest_region_of_piece(&log.last, NULL, &region), KVMA_OK);
    CHECK_EQ(region.state, 0);
    CHECK_EQ(region.slot, slot);
    CHECK_EQ(region.range.start, 0x102000);
    CHECK_EQ(region.backing.offset, 0x702000);
    CHECK_EQ(kvma_guest_region_of_piece(&log.last, &log.old, &region), KVMA_OK);
    CHECK_EQ(region.state, KVMA_GUEST_UNPLUGGED);
    uint64_t bytes = 0;
    CHECK_EQ(kvma_guest_plugged_bytes(guest, slot, &bytes), KVMA_OK);
    CHECK_EQ(bytes, 4 * PAGE);
    CHECK_EQ(kvma_guest_region_count(guest), 3);

    update = begin(guest, &table);
    CHECK_EQ(kvma_guest_plug(update, guest, slot, 0x105000, 2 * PAGE, &named), KVMA_WRONG_STATE);
    CHECK_EQ(named, slot);
    CHECK_EQ(kvma_guest_plug(update, guest, slot, 0x10f000, 2 * PAGE, NULL), KVMA_SLOT_NOT_WHOLE);
    CHECK_EQ(kvma_guest_plug(update, guest, 5, 0x10f000, PAGE, NULL), KVMA_NO_SLOT);
    CHECK_EQ(kvma_guest_make_private(update, guest, 0x102000, PAGE, NULL), KVMA_OK);
    CHECK_EQ(kvma_guest_make_shared(update, guest, 0x102000, PAGE, NULL), KVMA_OK);
    CHECK_EQ(kvma_guest_await_contents(update, guest, 0x103000, PAGE, NULL), KVMA_OK);
    struct kvma_guest_fault_answer answer;
    CHECK_EQ(kvma_guest_fault(guest, 0x103010, KVMA_READ, KVMA_GUEST_ANY_PAGE, LEAVES, &answer),
             KVMA_OK);
    CHECK_EQ(answer.action, KVMA_GUEST_FAULT_FETCH);
    CHECK_EQ(answer.backing.offset, 0x703000);
    CHECK_EQ(kvma_guest_arrived(update, guest, 0x103000, PAGE, NULL), KVMA_OK);
    CHECK_EQ(kvma_guest_balloon(update, guest, 0x104000, PAGE, NULL), KVMA_OK);
    CHECK_EQ(kvma_guest_balloon(update, guest, 0x400000, PAGE, NULL), KVMA_NOT_MAPPED);
    CHECK_EQ(kvma_guest_unplug(update, guest, slot, 0x102000, 4 * PAGE, NULL), KVMA_OK);
    end(update, guest);
    CHECK_EQ(kvma_guest_region_count(guest), 1);
    CHECK_EQ(kvma_guest_free(guest), KVMA_OK);
}

TEST(a_bar_moves_over_itself) {
    struct kvma_guest *guest = new_guest();
    struct log log;
    struct kvma_hooks table = hooks(&log);
    uint32_t bar = add(guest, ram(0x100000, 16 * PAGE, 0x700000));
    uint32_t other = add(guest, ram(0x200000, PAGE, 0x900000)), named = 9;
    struct kvma_guest_slot_change change;
    memset(&change, 0, sizeof change);
    change.moves = true;
    change.to = 0x108000;
    change.set = KVMA_GUEST_READ_ONLY;
    struct kvma_guest_update *update = begin(guest, &table);
    CHECK_EQ(kvma_guest_modify_slot(update, guest, bar, &change, NULL), KVMA_OK);
    end(update, guest);
    expect(&log, "UMu<m>");
    struct kvma_guest_region region;
    CHECK_EQ(kvma_guest_region_at(guest, 0x117fff, &region), KVMA_OK);
    CHECK_EQ(region.range.start, 0x108000);
    CHECK_EQ(region.state, KVMA_GUEST_READ_ONLY);
    CHECK_EQ(kvma_guest_region_at(guest, 0x107fff, NULL), KVMA_NOT_MAPPED);

    update = begin(guest, &table);
    change.to = 0x1f8000;
    CHECK_EQ(kvma_guest_modify_slot(update, guest, bar, &change, &named), KVMA_SLOT_IN_THE_WAY);
    CHECK_EQ(named, other);
    CHECK_EQ(kvma_guest_modify_slot(update, guest, 9, &change, NULL), KVMA_NO_SLOT);
    change.clear = KVMA_GUEST_READ_ONLY;
    CHECK_EQ(kvma_guest_modify_slot(update, guest, bar, &change, NULL), KVMA_BAD_ARGUMENT);
    end(update, guest);
    CHECK_EQ(kvma_guest_free(guest), KVMA_OK);
}

static bool first_use(void *udata, uint32_t slot, const struct kvma_range *range, uint64_t offset) {
    uint64_t *found = udata;
    found[0] = slot;
    found[1] = range->start;
    found[2] = offset;
    return false;
}

TEST(the_host_finds_who_shows_its_memory) {
    struct kvma_guest *guest = new_guest();
    uint32_t slot = add(guest, ram(0x100000, 16 * PAGE, 0x700000)), named = 9;
    uint64_t found[3] = {9, 9, 9};
    CHECK_EQ(kvma_guest_host_uses(guest, 0x703100, 1, first_use, found), KVMA_STOPPED);
    CHECK_EQ(found[0], slot);
    CHECK_EQ(found[1], 0x103000);
    CHECK_EQ(found[2], 0x703000);
    CHECK_EQ(kvma_guest_host_uses(guest, 0x800000, PAGE, first_use, found), KVMA_OK);
    CHECK_EQ(kvma_guest_file_uses(guest, 3, 0, PAGE, first_use, found), KVMA_OK);

    struct kvma_guest_update *update = begin(guest, NULL);
    CHECK_EQ(kvma_guest_keep_from_guest(update, guest, 0x700000, PAGE, &named), KVMA_SLOT_SHOWS_IT);
    CHECK_EQ(named, slot);
    CHECK_EQ(kvma_guest_keep_from_guest(update, guest, 0x900000, PAGE, NULL), KVMA_OK);
    end(update, guest);
    update = begin(guest, NULL);
    struct kvma_guest_slot_request request = ram(0x200000, 4 * PAGE, 0x8ff000);
    CHECK_EQ(kvma_guest_add_slot(update, guest, &request, NULL), KVMA_HOST_MEMORY);
    CHECK_EQ(kvma_guest_leave_to_guest(update, guest, 0x900000, PAGE), KVMA_OK);
    CHECK_EQ(kvma_guest_leave_to_guest(update, guest, 0x900000, PAGE), KVMA_NOT_MAPPED);
    CHECK_EQ(kvma_guest_add_slot(update, guest, &request, NULL), KVMA_OK);
    end(update, guest);
    CHECK_EQ(kvma_guest_free(guest), KVMA_OK);
}

struct watched {
    int runs;
    struct kvma_range last;
};

static void watch_writes(void *udata, const struct kvma_range *range) {
    struct watched *watched = udata;
    watched->runs++;
    watched->last = *range;
}

TEST(dirty_pages_are_taken_in_chunks) {
    struct kvma_guest *guest = new_guest();
    struct kvma_guest_slot_request request = ram(0x100000, 100 * PAGE, 0x700000);
    request.state = KVMA_GUEST_LOG_DIRTY;
    uint32_t slot = add(guest, request), plain = add(guest, ram(0x800000, PAGE, 0));
    struct kvma_guest_region region;
    CHECK_EQ(kvma_guest_slot(guest, slot, &region, NULL), KVMA_OK);
    size_t words[128 / (8 * sizeof(size_t))] = {0};
    struct kvma_dirty_bitmap bitmap = {words, sizeof words / sizeof *words, region.range, PAGE};

    struct kvma_guest_fault_answer answer;
    CHECK_EQ(kvma_guest_fault(guest, 0x103000, KVMA_WRITE, KVMA_GUEST_ANY_PAGE, LEAVES, &answer),
             KVMA_OK);
    CHECK(answer.dirties);
    CHECK_EQ(answer.leaf_size, PAGE);
    CHECK(kvma_dirty_mark(&bitmap, answer.gpa));
    CHECK(!kvma_dirty_mark(&bitmap, answer.gpa));
    CHECK_EQ(kvma_dirty_mark_range(&bitmap, 0x103fff, 2), 1);
    CHECK_EQ(kvma_dirty_mark_range(&bitmap, 0x100000 + 99 * PAGE, 9 * PAGE), 1);
    CHECK(kvma_dirty_is_marked(&bitmap, 0x104000));
    CHECK(!kvma_dirty_is_marked(&bitmap, 0x105000));
    CHECK(!kvma_dirty_mark(&bitmap, 0x99000));
    CHECK(!kvma_dirty_mark(NULL, 0x99000));

    struct watched watched = {0, {0, 0, 0}};
    struct kvma_hooks table;
    memset(&table, 0, sizeof table);
    table.size = sizeof table;
    table.watch_writes = watch_writes;
    table.udata = &watched;
    struct kvma_guest_update *update = begin(guest, &table);
    uint64_t out = 9, next = 9;
    CHECK_EQ(kvma_guest_fetch_dirty(update, guest, slot, &bitmap, 0, &out, 1, &next), KVMA_OK);
    CHECK_EQ(out, 0x18);
    CHECK_EQ(next, 64);
    CHECK_EQ(watched.runs, 1);
    CHECK_EQ(watched.last.start, 0x103000);
    CHECK_EQ(watched.last.len, 2 * PAGE);
    CHECK_EQ(kvma_guest_fetch_dirty(update, guest, slot, &bitmap, next, &out, 1, &next), KVMA_OK);
    CHECK_EQ(out, UINT64_C(1) << (99 - 64));
    CHECK_EQ(next, 0);
    CHECK_EQ(kvma_guest_fetch_dirty(update, guest, slot, &bitmap, 0, &out, 1, &next), KVMA_OK);
    CHECK_EQ(out, 0);
    CHECK_EQ(watched.runs, 2);
    CHECK_EQ(kvma_guest_fetch_dirty(update, guest, plain, &bitmap, 0, &out, 1, &next),
             KVMA_WRONG_STATE);
    CHECK_EQ(kvma_guest_fetch_dirty(update, guest, slot, &bitmap, 1, &out, 1, &next),
             KVMA_UNALIGNED);
    CHECK_EQ(kvma_guest_fetch_dirty(update, guest, slot, &bitmap, 0, NULL, 1, &next),
             KVMA_NULL_POINTER);
    bitmap.count = 1;
    CHECK_EQ(kvma_guest_fetch_dirty(update, guest, slot, &bitmap, 0, &out, 1, &next),
             KVMA_OUT_OF_RANGE);
    end(update, guest);
    CHECK_EQ(kvma_guest_free(guest), KVMA_OK);
}

static bool count_slots(void *udata, const struct kvma_guest_region *region, void *data) {
    uint32_t *next = udata;
    CHECK_EQ(region->slot, *next);
    CHECK(data == (void *)udata);
    ++*next;
    return true;
}

static void take(void *udata, const struct kvma_guest_region *region, void *data) {
    count_slots(udata, region, data);
}

TEST(walks_see_every_region_and_slot) {
    struct kvma_guest *guest = new_guest();
    uint32_t next = 0;
    for (int i = 0; i < 5; i++) {
        struct kvma_guest_slot_request request = ram(0x100000 * (i + 1), 4 * PAGE, 0x10000 * i);
        request.data = i == 4 ? NULL : (void *)&next;
        add(guest, request);
    }
    void *former = &next;
    CHECK_EQ(kvma_guest_set_slot_data(guest, 4, &next, &former), KVMA_OK);
    CHECK(former == NULL);
    CHECK_EQ(kvma_guest_set_slot_data(guest, 5, &next, &former), KVMA_NO_SLOT);
    CHECK_EQ(kvma_guest_slots(guest, count_slots, &next), KVMA_OK);
    CHECK_EQ(next, 5);

    struct kvma_walk walk = kvma_walk_over(0x101000, 0x200000);
    struct kvma_guest_region region;
    uint64_t starts[3] = {0x101000, 0x200000, 0x300000};
    for (int i = 0; i < 3; i++) {
        CHECK(kvma_guest_next_region(guest, &walk, &region));
        CHECK_EQ(region.range.start, starts[i]);
    }
    CHECK(!kvma_guest_next_region(guest, &walk, &region));
    walk = kvma_walk_over(0x101000, 0x200000);
    for (int i = 2; i >= 0; i--) {
        CHECK(kvma_guest_prev_region(guest, &walk, &region));
        CHECK_EQ(region.range.start, starts[i]);
    }
    CHECK(!kvma_guest_prev_region(guest, &walk, &region));

    struct log log;
    struct kvma_hooks table = hooks(&log);
    struct kvma_guest_update *update = begin(guest, &table);
    next = 0;
    CHECK_EQ(kvma_guest_clear(update, guest, take, &next), KVMA_OK);
    end(update, guest);
    CHECK_EQ(next, 5);
    expect(&log, "UUUUUuuuuu<>");
    CHECK_EQ(kvma_guest_free(guest), KVMA_OK);
}

TEST(refusals_of_hooks_and_wrong_input_change_nothing) {
    struct kvma_guest *guest = new_guest();
    struct log log;
    struct kvma_hooks table = hooks(&log);
    add(guest, ram(0x100000, 4 * PAGE, 0));
    log.refuse_at = 1;
    log.refuse_with = 12;
    struct kvma_guest_update *update = begin(guest, &table);
    CHECK_EQ(kvma_guest_remove_slot(update, guest, 0, NULL, NULL), -12);
    CHECK_EQ(kvma_guest_add_slot(update, guest, NULL, NULL), KVMA_NULL_POINTER);
    struct kvma_guest_slot_request request = ram(0x200000, 4 * PAGE, 0);
    request.kind = 6;
    CHECK_EQ(kvma_guest_add_slot(update, guest, &request, NULL), KVMA_BAD_ARGUMENT);
    request.kind = KVMA_GUEST_MMIO;
    CHECK_EQ(kvma_guest_add_slot(update, guest, &request, NULL), KVMA_BACKING_DIFFERS);
    request.kind = KVMA_GUEST_RAM;
    request.flags = KVMA_READ;
    CHECK_EQ(kvma_guest_add_slot(update, guest, &request, NULL), KVMA_BAD_ARGUMENT);
    request.flags = 0;
    request.state = 1;
    CHECK_EQ(kvma_guest_add_slot(update, guest, &request, NULL), KVMA_BAD_ARGUMENT);
    request.state = 0;
    request.len = 0;
    CHECK_EQ(kvma_guest_add_slot(update, guest, &request, NULL), KVMA_ZERO_LENGTH);
    end(update, guest);
    CHECK_EQ(kvma_guest_slot_count(guest), 1);
    CHECK_EQ(kvma_guest_add_slot(NULL, guest, &request, NULL), KVMA_NULL_POINTER);
    CHECK_EQ(kvma_guest_slot_count(NULL), 0);
    CHECK_EQ(kvma_guest_free(guest), KVMA_OK);
    CHECK_EQ(kvma_guest_free(NULL), KVMA_OK);
}

TESTS(RUN(slots_come_and_go_whole), RUN(faults_are_answered), RUN(blocks_are_as_large_as_can_be),
      RUN(parts_of_slots_change), RUN(a_bar_moves_over_itself),
      RUN(the_host_finds_who_shows_its_memory), RUN(dirty_pages_are_taken_in_chunks),
      RUN(walks_see_every_region_and_slot), RUN(refusals_of_hooks_and_wrong_input_change_nothing))
